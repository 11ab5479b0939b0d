#!/bin/bash
# Build an ISO of a closure with each of two compressions, repack each into the other, and compare the outcome with the
# build. Beside it, what is done without isopress: unsquashfs, then mksquashfs. A table in Markdown.
#
#   testdata/bench/repack.sh [OPTIONS]
#
#   --closure DIR      store-paths, registration and result (default: bin/closure, of testdata/make-closure)
#   --from CODEC       one compression, as isopress takes it (default: xz)
#   --to CODEC         the other (default: zstd:19)
#   --block-size SIZE  of both (default: 1M)
#   --boot REGEXP      boot the repacked ISOs, from a CD under BIOS and from a USB stick under UEFI, until a line matches
#   --quick            without unsquashfs and mksquashfs
#
# Every build and repacking is without a cache. The time of unsquashfs and mksquashfs is for the squashfs alone, without the
# ISO around it; owners come out right as root only.
#
# Environment: ISOPRESS, MKSQUASHFS and UNSQUASHFS name the programs (default: bin/isopress, on PATH), JOBS are the processors
# (2), TMPDIR is where all is made. Nothing is installed: Debian has squashfs-tools, time, xorriso; for --boot qemu-system-x86, ovmf.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress} mksquashfs=${MKSQUASHFS:-mksquashfs} unsquashfs=${UNSQUASHFS:-unsquashfs} jobs=${JOBS:-2}
closure=$here/../../bin/closure from=xz to=zstd:19 block=1M boot='' quick=''
command_line="testdata/bench/repack.sh${*:+$(printf ' %q' "$@")}"
while [ $# -gt 0 ]; do
  option=$1; shift
  case $option in
    --quick) quick=1; continue ;;
  esac
  [ $# -gt 0 ] || usage
  case $option in
    --closure) closure=$1 ;;
    --from) from=$1 ;;
    --to) to=$1 ;;
    --block-size) block=$1 ;;
    --boot) boot=$1 ;;
    *) usage ;;
  esac
  shift
done
for f in store-paths registration result; do [ -e "$closure/$f" ] || die "$closure/$f: not found"; done
need "$isopress" "go build -o bin/ ./cmd/..."
need /usr/bin/time "Debian: apt install time"
[ -n "$quick" ] || { need "$mksquashfs" "Debian: apt install squashfs-tools"; need "$unsquashfs" "Debian: apt install squashfs-tools"; need xorriso "Debian: apt install xorriso"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# timed COMMAND... notes "seconds, processor seconds, MiB" in $took.
timed() {
  /usr/bin/time -q -o "$work/time" -f '%e %U %S %M' "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "$1 failed"; }
  took=$(awk '{ printf "%.1f | %.1f | %.0f", $1, $2 + $3, $4 / 1024 }' "$work/time")
}

build() { # build CODEC OUT
  timed "$isopress" build --closure "$closure/store-paths" --registration "$closure/registration" --system "$(readlink "$closure/result")" \
    --compression "$1" --block-size "$block" --cache off -j "$jobs" -q -o "$2"
}

row() { echo "| $1 | $2 | $took | $3 |"; } # row WHAT BYTES OUTCOME

boots() { # boots ISO
  local way seconds
  [ -n "$boot" ] || return 0
  for way in bios:cdrom uefi:usb; do
    seconds=$(field seconds "$("$isopress" boot "$1" --firmware "${way%:*}" --attach "${way#*:}" --memory 1G --expect "$boot" --timeout 10m --json 2>"$work/log")") ||
      { tail -n 5 "$work/log" >&2; die "$1 does not boot by $way"; }
    printf ', boots (%s, %.0f s)' "$way" "$seconds"
  done
}

echo "$(machine); load before: $(cut -d ' ' -f 1 /proc/loadavg). isopress $(version_of isopress "$isopress")$([ -n "$quick" ] || echo ", mksquashfs $(version_of mksquashfs "$mksquashfs")")."
echo
echo "    $command_line"
echo
echo "| | bytes | s | processor s | peak MiB | outcome |"
echo "|---|--:|--:|--:|--:|---|"
failed=0
for codec in "$from" "$to"; do
  build "$codec" "$work/$codec.iso"
  row "build, $codec" "$(stat -c %s "$work/$codec.iso")" ''
done
for pair in "$from $to" "$to $from"; do
  read -r old new <<< "$pair"
  timed "$isopress" repack "$work/$old.iso" --compression "$new" --block-size "$block" --cache off -j "$jobs" -q -o "$work/out.iso"
  outcome='the very bytes of the build'
  cmp -s "$work/out.iso" "$work/$new.iso" || { outcome='**not the bytes of the build**'; failed=1; }
  row "repack, $old to $new" "$(stat -c %s "$work/out.iso")" "$outcome$(boots "$work/out.iso")"
  rm "$work/out.iso"
done
if [ -z "$quick" ]; then
  for pair in "$from $to" "$to $from"; do
    read -r old new <<< "$pair"
    timed xorriso -osirrox on -indev "$work/$old.iso" -extract /nix-store.squashfs "$work/old.squashfs"
    # shellcheck disable=SC2046,SC2016 # words; the inner shell's own
    timed sh -c '"$1" -q -n -p "$4" -d "$2/tree" "$2/old.squashfs" && shift 4 && "$@"' sh "$unsquashfs" "$work" - "$jobs" \
      "$mksquashfs" "$work/tree" "$work/new.squashfs" -noappend -no-progress -quiet -processors "$jobs" -b "$block" $(mksquashfs_codec "$new")
    row "unsquashfs, mksquashfs, $old to $new" "$(stat -c %s "$work/new.squashfs")" 'the squashfs alone'
    rm -rf "$work/tree" "$work"/*.squashfs
  done
fi
exit $failed
