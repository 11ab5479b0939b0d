#!/bin/bash
# Hold what `isopress advise` predicts against what is: build images of a closure or a tree with some of its
# choices, and have Linux read a working set from each, from a device as slow as the prediction was made for, with
# nothing in any cache. A table in Markdown.
#
#   testdata/bench/advise.sh [OPTIONS] SOURCE...
#
# SOURCE is given to isopress as it is: --root DIR, or --closure FILE --registration FILE.
# OPTIONS:
#   --choices LIST   CODEC@BLOCKSIZE with commas between them (default: zstd:19@1M,zstd:3@128K,lz4@1M), or all
#   --storage MB     megabytes a second (default: 20)
#   --sizes          build only, read nothing
#   --advice FILE    what isopress advise --json said before: for the sizes alone
#
# The working set is the files of a tenth of the directories, in the order of their names. The device is a
# loop device whose rate the blkio controller limits (cgroup v1 or v2), and its latency is taken to be 0. Wants root.
#
# Environment: ISOPRESS names the program (default: bin/isopress); TMPDIR is where the images go, one at a time.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
. "$here/advise-lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
choices=zstd:19@1M,zstd:3@128K,lz4@1M rate=20 sizes_only='' advice=''
command_line="testdata/bench/advise.sh $*"
while [ $# -gt 0 ]; do
  case $1 in
    --sizes) sizes_only=1; shift; continue ;;
    --choices) choices=$2 ;;
    --storage) rate=$2 ;;
    --advice) advice=$2 ;;
    *) break ;;
  esac
  shift 2
done
[ $# -gt 0 ] || usage
need "$isopress" "go build -o bin/ ./cmd/..."
need jq "Debian: apt install jq"

work=$(mktemp -d)
group=
clean() {
  umount -l "$work/mnt" 2>/dev/null || true
  [ ! -e "$work/loop" ] || losetup -d "$(cat "$work/loop")" 2>/dev/null || true
  [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work/mnt"

# limit DEVICE has what joins the group read from it at the rate.
limit() {
  local id bps=$((rate * 1000000))
  id=$(lsblk -dno MAJ:MIN "$1" | tr -d ' ')
  if [ -d /sys/fs/cgroup/blkio ]; then
    group=/sys/fs/cgroup/blkio/isopress-advise
    mkdir -p "$group"
    echo "$id $bps" > "$group/blkio.throttle.read_bps_device"
  else
    group=/sys/fs/cgroup/isopress-advise
    echo +io > /sys/fs/cgroup/cgroup.subtree_control
    mkdir -p "$group"
    echo "$id rbps=$bps" > "$group/io.max"
  fi
}

# read_slowly prints the seconds that reading the working set takes, and the bytes read from the device.
read_slowly() {
  local loop before begin
  loop=$(losetup -f --show -r "$work/image")
  echo "$loop" > "$work/loop"
  limit "$loop"
  cat "$work/image" >/dev/null # the storage is the limit, not what the image lies on
  mount -t squashfs -o ro "$loop" "$work/mnt"
  before=$(awk '{ print $3 }' "/sys/block/${loop#/dev/}/stat")
  begin=$(date +%s.%N)
  (echo "$BASHPID" > "$group/cgroup.procs"; cd "$work/mnt"; xargs -0 cat < "$work/list0" >/dev/null)
  awk -v a="$begin" -v b="$(date +%s.%N)" -v before="$before" '{ print b - a, ($3 - before) * 512 }' "/sys/block/${loop#/dev/}/stat"
  umount "$work/mnt"
  losetup -d "$loop"
  rm "$work/loop"
  rmdir "$group"
}

source=("$@")
options=()
if [ -z "$sizes_only" ]; then
  build lz4 1M >/dev/null
  working_set
  options=(--working-set "$work/list")
fi
if [ -n "$advice" ]; then cp "$advice" "$work/advice"
else
  begin=$(date +%s)
  "$isopress" advise "${source[@]}" --storage "${rate}MB/s" "${options[@]}" -q --json > "$work/advice"
  echo "isopress advise took $(($(date +%s) - begin)) s."
fi
if [ "$choices" = all ]; then
  choices=$(jq -r '[.choices[] | "\(.compression)@\(.block_size)"] | join(",")' "$work/advice")
fi

off() { awk -v p="$1" -v r="$2" 'BEGIN { printf "%+.1f %%", 100 * (p / r - 1) }'; } # off PREDICTED REAL
echo "$(machine); load before: $(cut -d ' ' -f 1 /proc/loadavg); $rate MB/s."
echo
echo "    $command_line"
echo
echo "| compression | block | predicted bytes | ± | real | off by | built in, predicted s | real s | read in, predicted s | real s | off by | predicted MB | real MB |"
echo "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
while IFS=@ read -r codec size; do
  seconds=$(build "$codec" "$size")
  real=$(stat -c %s "$work/image") predicted=$(said "$codec" "$size" size)
  row="| $codec | $size | $predicted | $(said "$codec" "$size" size_error | awk '{ printf "%.1f %%", 200 * $1 }') | $real | $(off "$predicted" "$real")"
  row+=" | $(said "$codec" "$size" build_seconds | awk '{ printf "%.1f", $1 }') | $seconds"
  if [ -z "$sizes_only" ]; then
    read -r took bytes <<< "$(read_slowly)"
    predicted=$(said "$codec" "$size" read_seconds)
    row+=" | $(printf %.2f "$predicted") | $(printf %.2f "$took") | $(off "$predicted" "$took")"
    row+=" | $(said "$codec" "$size" read_bytes | awk '{ printf "%.1f", $1 / 1e6 }') | $(awk -v b="$bytes" 'BEGIN { printf "%.1f", b / 1e6 }')"
  else
    row+=" | | | | |"
  fi
  echo "$row |"
done < <(tr , '\n' <<< "$choices")
