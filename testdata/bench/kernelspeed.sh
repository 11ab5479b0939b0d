#!/bin/bash
# Compare how fast Linux expands squashfs blocks on one core with what `isopress advise` says that it
# does: build images of a closure or a tree, mount each with its file in the page cache, read all files
# twice, and take the processor time that the first reading takes more than the second, which finds them
# in the page cache. A table in Markdown; the last column is 1 where advise is
# right: kernelCopy in builder/advise_read.go is what none takes, kernelSpeed is by the others, less that.
#
#   testdata/bench/kernelspeed.sh [--repeat N] SOURCE...
#
# SOURCE is given to isopress as it is: --root DIR, or --closure FILE --registration FILE. Of N runs (3) the median
# counts. The files lie in the order of directories, so that each block is expanded once. Wants root.
#
# Environment: ISOPRESS names the program (default: bin/isopress); IMAGES is a directory that keeps the
# images from one run to the next (default: none is kept); CODECS and SIZES are what is
# compared; ADVICE is what isopress advise --json said before.
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

# cpu prints the processor seconds of reading all listed files.
cpu() {
  (cd "$work/mnt" && /usr/bin/time -f '%U %S' -o "$work/time" xargs -0 cat < "$work/list" >/dev/null)
  awk '{ print $1 + $2 }' "$work/time"
}

# expanding IMAGE prints the processor seconds of expanding all files, the median of all runs, and their bytes.
expanding() {
  local run cold
  cat "$1" >/dev/null
  for ((run = 0; run < repeat; run++)); do
    mount -t squashfs -o ro,loop "$1" "$work/mnt"
    (cd "$work/mnt" && find . -type f -print0) > "$work/list"
    cold=$(cpu)
    awk -v cold="$cold" -v warm="$(cpu)" -v bytes="$(bytes)" 'BEGIN { print cold - warm, bytes }'
    umount "$work/mnt"
  done | sort -n | awk '{ row[NR] = $0 } END { print row[int((NR + 1) / 2)] }'
}

bytes() { find "$work/mnt" -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%.0f", n }'; }

for size in "${sizes[@]}"; do
  for codec in none "${codecs[@]}"; do
    [ -e "$(image "$codec" "$size")" ] || "$isopress" squashfs "$@" --order directory \
      --compression "$codec" --block-size "$size" --cache off -q -o "$(image "$codec" "$size")"
  done
done
[ -z "${BUILD_ONLY:-}" ] || exit 0
if [ -n "${ADVICE:-}" ]; then cp "$ADVICE" "$work/advice"
else "$isopress" advise "$@" --time 12s -q --json > "$work/advice"; fi # the rates need few samples

echo "$(machine); load before: $(cut -d ' ' -f 1 /proc/loadavg)."
echo
echo "    testdata/bench/kernelspeed.sh $*"
echo
echo "| block | compression | Linux, CPU s | MB/s | advise, MB/s | Linux / advise |"
echo "|--:|---|--:|--:|--:|--:|"
for size in "${sizes[@]}"; do
  for codec in none "${codecs[@]}"; do
    read -r took bytes <<< "$(expanding "$(image "$codec" "$size")")"
    said=$(jq --arg c "$codec" --argjson b "$(numfmt --from=iec "$size")" \
      '.choices[] | select(.block_size == $b and (.compression == $c or .compression == $c + ":6")) | .expand_rate' "$work/advice")
    awk -v size="$size" -v codec="$codec" -v took="$took" -v bytes="$bytes" -v said="${said:-0}" 'BEGIN {
      printf "| %s | %s | %.2f | %.0f |", size, codec, took, bytes / took / 1e6
      if (said) printf " %.0f | %.2f |\n", said / 1e6, bytes / took / said
      else print " | |" }'
  done
done
