#!/bin/bash
# Compare how fast Linux expands squashfs blocks on one core with what `isopress advise` says that it
# does: build images of a closure or a tree, mount each with its file in the page cache, read all files
# once, and take the processor time that this takes more than with an image of --compression none. A
# table in Markdown; the last column is by what kernelSpeed in builder/advise_read.go is to be
# multiplied, and is 1 where advise is right.
#
#   testdata/bench/kernelspeed.sh [--repeat N] SOURCE...
#
# SOURCE is given to isopress as it is: --root DIR, or --closure FILE --registration FILE. Of N runs (3) the quickest
# counts. The files lie in the order of directories, so that each block is expanded once. Wants root.
#
# Environment: ISOPRESS names the program (default: bin/isopress); IMAGES is a directory that keeps the
# images from one run to the next (default: none is kept); CODECS and SIZES are what is compared.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
read -ra codecs <<< "${CODECS:-zstd:1 zstd:3 zstd:19 xz gzip:9 lz4 lz4:hc}"
read -ra sizes <<< "${SIZES:-1M 128K}"

repeat=3
if [ "${1:-}" = --repeat ]; then repeat=$2; shift 2; fi
[ $# -gt 0 ] || usage
need "$isopress" "go build -o bin/ ./cmd/..."
need /usr/bin/time "Debian: apt install time"
need jq "Debian: apt install jq"
grep -qw squashfs /proc/filesystems || die "this kernel has no squashfs"

work=$(mktemp -d)
images=${IMAGES:-$work}
clean() { umount -l "$work/mnt" 2>/dev/null || true; rm -rf "$work"; }
trap clean EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$work/mnt" "$images"

image() { echo "$images/$1-$2.squashfs"; } # image CODEC SIZE

# read_all IMAGE prints processor seconds and bytes of reading all files, the quickest of all runs. The
# image's own pages are in the cache by then, those of its files are not.
read_all() {
  local run
  cat "$1" >/dev/null
  for ((run = 0; run < repeat; run++)); do
    mount -t squashfs -o ro,loop "$1" "$work/mnt"
    (cd "$work/mnt" && /usr/bin/time -f '%U %S' -o "$work/time" find . -type f -exec cat {} + | wc -c > "$work/bytes")
    awk -v bytes="$(cat "$work/bytes")" '{ print $1 + $2, bytes }' "$work/time"
    umount "$work/mnt"
  done | sort -n | head -n 1
}

for size in "${sizes[@]}"; do
  for codec in none "${codecs[@]}"; do
    [ -e "$(image "$codec" "$size")" ] || "$isopress" squashfs "$@" --order directory \
      --compression "$codec" --block-size "$size" --cache off -q -o "$(image "$codec" "$size")"
  done
done
[ -z "${BUILD_ONLY:-}" ] || exit 0
"$isopress" advise "$@" --time 12s -q --json > "$work/advice" # the rates need few samples

echo "$(machine); load before: $(cut -d ' ' -f 1 /proc/loadavg)."
echo
echo "    testdata/bench/kernelspeed.sh $*"
echo
echo "| block | compression | Linux, CPU s | less none's | MB/s | advise, MB/s | Linux / advise |"
echo "|--:|---|--:|--:|--:|--:|--:|"
for size in "${sizes[@]}"; do
  read -r none _ <<< "$(read_all "$(image none "$size")")"
  for codec in "${codecs[@]}"; do
    read -r all bytes <<< "$(read_all "$(image "$codec" "$size")")"
    said=$(jq --arg c "$codec" --argjson b "$(numfmt --from=iec "$size")" \
      '.choices[] | select(.block_size == $b and (.compression == $c or .compression == $c + ":6")) | .expand_rate' "$work/advice")
    awk -v size="$size" -v codec="$codec" -v all="$all" -v none="$none" -v bytes="$bytes" -v said="$said" 'BEGIN {
      rate = bytes / (all - none)
      printf "| %s | %s | %.2f | %.2f | %.0f | %.0f | %.2f |\n", size, codec, all, all - none, rate / 1e6, said / 1e6, rate / said }'
  done
done
