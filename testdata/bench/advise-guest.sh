#!/bin/bash
# Hold the reading times that `isopress advise` predicts against those of a virtual machine whose disk is held to a
# rate: a guest with one processor mounts an image of some of the choices, with nothing in its caches, and reads a
# working set; its own clock counts. A table in Markdown.
#
#   testdata/bench/advise-guest.sh [OPTIONS] SOURCE...
#
# SOURCE is given to isopress as it is: --root DIR, or --closure FILE --registration FILE.
# OPTIONS:
#   --choices LIST   CODEC@BLOCKSIZE with commas between them (default: zstd:19@1M,zstd:3@128K,lz4@1M,xz@256K)
#   --storage MB     megabytes a second (default: 0.1)
#   --read PERCENT   of all directories, whose files are read (default: 10)
#   --kernel FILE, --modules DIR
#                    a kernel, and the directory with its lib/modules (default: of bin/closure, which
#                    testdata/make-closure makes)
#
# The guest reads the working set twice; what the second reading takes, which finds it in the page cache, is the reading
# program's own and is subtracted. QEMU emulates the processor, several times slower than this machine's: how many times, is
# measured with an image of zstd:3 in blocks of 128K on a disk that is not held back, and holds for all (advise's --reader-speed).
#
# QEMU answers a request at once and makes the next one wait for it, so that the guest expands a block in the time that the disk
# is said to take for it. Real storage does not: advise predicts the sum. So the disk has to be slow enough for reading to be most of the
# time; where it is not, the guest is quicker than predicted, by as much as it expands.
#
# Environment: ISOPRESS names the program (default: bin/isopress); TMPDIR is where the images go, one at a time.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/advise-lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
choices=zstd:19@1M,zstd:3@128K,lz4@1M,xz@256K rate=0.1 read=10 kernel='' modules=''
command_line="testdata/bench/advise-guest.sh $*"
while [ $# -gt 0 ]; do
  case $1 in
    --choices) choices=$2 ;;
    --storage) rate=$2 ;;
    --read) read=$2 ;;
    --kernel) kernel=$2 ;;
    --modules) modules=$2 ;;
    *) break ;;
  esac
  shift 2
done
[ $# -gt 0 ] || usage
need "$isopress" "go build -o bin/ ./cmd/..."
need jq "Debian: apt install jq"
need qemu-system-x86_64 "Debian: apt install qemu-system-x86"
need /bin/busybox "Debian: apt install busybox-static"
closure=$here/../../bin/closure
[ -n "$kernel" ] || kernel=$(readlink "$closure/result")/kernel
[ -n "$modules" ] || modules=$(readlink "$closure/result")/kernel-modules
need "$kernel" "give --kernel, or make bin/closure by testdata/make-closure"

source=("$@")
work=$(mktemp -d)
clean() { umount -l "$work/mnt" 2>/dev/null || true; rm -rf "$work"; }
trap clean EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work/mnt"

# The guest's init prints when it began to read the working set, had read it and had read it again, and the sectors read.
make_initrd() {
  cat > "$work/init" <<'END'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
while read -r m needs; do $b insmod "$m"; done < /etc/isopress/modules
$b mount -t squashfs -o ro /dev/vda /mnt || $b poweroff -f
cd /mnt
read -r begin rest < /proc/uptime
$b xargs -0 $b cat < /list0 > /dev/null && read -r end rest < /proc/uptime
$b xargs -0 $b cat < /list0 > /dev/null && read -r again rest < /proc/uptime
read -r ios merged sectors rest < /sys/block/vda/stat
echo "GUEST-READ $begin $end $again $sectors"
$b poweroff -f
END
  chmod +x "$work/init"
  mkdir -p "$work/dirs"/{proc,sys,dev,mnt}
  "$isopress" initrd --kernel-modules "$modules" --module virtio_pci --module virtio_blk --module squashfs --init none \
    --add "$work/init:/init" --add /bin/busybox:/bin/busybox --add "$work/list0:/list0" --add "$work/dirs/proc:/proc" \
    --add "$work/dirs/sys:/sys" --add "$work/dirs/dev:/dev" --add "$work/dirs/mnt:/mnt" -q -o "$work/initrd"
}

# guest BYTES-A-SECOND prints the seconds and the bytes; of 0, as quick as can be.
guest() {
  cat "$work/image" >/dev/null # the throttle is the limit, not what the image lies on
  qemu-system-x86_64 -accel tcg -m 768 -nodefaults -display none -serial "file:$work/console" -no-reboot \
    -kernel "$kernel" -initrd "$work/initrd" -append 'console=ttyS0 loglevel=4 panic=-1' \
    -drive "file=$work/image,if=none,id=image,format=raw,readonly=on,throttling.bps-read=$1" -device virtio-blk-pci,drive=image
  awk '/^GUEST-READ/ { print 2 * $3 - $2 - $4, $5 * 512; ok = 1 } END { exit !ok }' "$work/console" || { cat "$work/console" >&2; die "the guest failed"; }
}

build zstd:3 128K >/dev/null
working_set "$read"
make_initrd
read -r took bytes <<< "$(guest 0)"
"$isopress" advise "${source[@]}" --working-set "$work/list" --storage "${rate}MB/s" -q --json > "$work/advice"

# predicted CODEC BLOCKSIZE prints the seconds of reading and those of expanding, by a core like ours, and the bytes read.
predicted() {
  local bytes
  bytes=$(said "$1" "$2" read_bytes)
  said "$1" "$2" read_seconds | awk -v bytes="$bytes" -v rate="$rate" '{ s = bytes / rate / 1e6; print s, $1 - s, bytes }'
}
read -r reading expanding content <<< "$(predicted zstd:3 128K)"
speed=$(awk -v e="$expanding" -v took="$took" 'BEGIN { printf "%.4f", e / took }')

echo "$(machine); load before: $(cut -d ' ' -f 1 /proc/loadavg); $rate MB/s; the guest's processor is $speed times as quick: $(wc -l < "$work/list") files in $took s."
echo
echo "    $command_line"
echo
echo "| compression | block | reading, predicted s | expanding, predicted s | both | real s | off by | predicted MB | real MB |"
echo "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
while IFS=@ read -r codec size; do
  build "$codec" "$size" >/dev/null
  read -r took bytes <<< "$(guest "$(awk -v r="$rate" 'BEGIN { printf "%d", r * 1e6 }')")"
  read -r reading expanding content <<< "$(predicted "$codec" "$size")"
  awk -v codec="$codec" -v size="$size" -v s="$reading" -v e="$expanding" -v speed="$speed" -v took="$took" -v c="$content" -v bytes="$bytes" 'BEGIN {
    e /= speed
    p = s + e
    printf "| %s | %s | %.1f | %.1f | %.1f | %.1f | %+.1f %% | %.1f | %.1f |\n", codec, size, s, e, p, took, 100 * (p / took - 1), c / 1e6, bytes / 1e6 }'
done < <(tr , '\n' <<< "$choices")
