#!/bin/bash
# Measure what the next version of a closure costs: time, memory and reading of builds with a cache and
# with --base, beside mksquashfs and a copy of the image; then, for changes as systems see them, how much of the
# new image lies in content-defined chunks that the old one does not have. Two tables in Markdown.
#
#   testdata/bench/incremental.sh --closure DIR [OPTIONS]
#
#   --closure DIR           store-paths, registration and result (testdata/make-closure)
#   --compression CODEC     as isopress takes it (default: zstd:19); blocks are of 1 MiB
#   --mksquashfs PROGRAM    default: MKSQUASHFS where it is set, or that on PATH
#   --repeat N              medians of N runs in rows that take a moment (default: 5)
#   --quick                 compare only the images of the first table with those built without a cache
#   --keep DIR              where the squashfs images, the closures and the store are left
#
# The closure is copied, and the changed paths are put beside it (testdata/bench/variants says what is changed,
# and how): three times its size is needed below TMPDIR, and some images.
#
# The page cache is filled; images are written to TMPDIR, and isopress waits until its own is on the disk: hence
# the second copy. Cold is with an empty cache, and fills it. Each image is compared with one built
# with --cache off, and a difference fails the row. "MiB read" is what read(2) and pread(2) returned of the
# store's files, counted by strace in another run, with zstd:3 where all is compressed anyway.
#
# Shares are of FastCDC chunks of 64 KiB on average (testdata/bench/chunks).
#
# What fails, an image or a row, says why and the rest goes on; the exit status is 1 then.
#
# Environment: MKSQUASHFS and ISOPRESS name the programs (default: on PATH, bin/isopress), JOBS are the
# processors (2), TMPDIR is where all is made. Debian has squashfs-tools, strace and time.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
mksquashfs=${MKSQUASHFS:-mksquashfs}
jobs=${JOBS:-2}

closure='' compression=zstd:19 repeat=5 quick='' keep='' failed=''
command_line="testdata/bench/incremental.sh${*:+$(printf ' %q' "$@")}"
while [ $# -gt 0 ]; do
  option=$1; shift
  case $option in
    --quick) quick=1; continue ;;
  esac
  [ $# -gt 0 ] || usage
  case $option in
    --closure) closure=$1 ;;
    --compression) compression=$1 ;;
    --mksquashfs) mksquashfs=$1 ;;
    --repeat) repeat=$1 ;;
    --keep) keep=$1 ;;
    *) usage ;;
  esac
  shift
done
[ -n "$closure" ] || usage
for f in store-paths registration result; do [ -e "$closure/$f" ] || die "$closure/$f: not found"; done
mksquashfs_codec "$compression" >/dev/null
need "$isopress" "go build -o bin/ ./cmd/..."
need "$mksquashfs" "Debian: apt install squashfs-tools"
need strace "Debian: apt install strace"
need /usr/bin/time "Debian: apt install time"

if [ -n "$keep" ]; then
  work=$(realpath "$keep"); mkdir "$work"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
trap 'exit 130' INT TERM HUP

# --- The closures

root=$work/root changes=$work/changes
mkdir -p "$root/nix/store" "$changes/0-old"
for program in chunks variants; do
  (cd "$here/$program" && go build -o "$work/$program" .) || die "go build failed"
done
mapfile -t paths < "$closure/store-paths"
cp -a --reflink=auto "${paths[@]}" "$root/nix/store"
cp "$closure/store-paths" "$closure/registration" "$changes/0-old"
"$work/variants" "$closure" "$root" "$changes"
leaf=$changes/1-leaf
[ -e "$leaf" ] || die "$closure: no path that only the top level refers to"

# --- Programs

# press CLOSURE IMAGE FLAGS... sets argv.
press() {
  argv=("$isopress" squashfs --store-root "$root" --closure "$1/store-paths" --registration "$1/registration"
    --compression "$compression" --block-size 1M -j "$jobs" -q -o "$2" "${@:3}")
}

# nixpkgs IMAGE CODEC sets argv.
# shellcheck disable=SC2207 # flags are words
nixpkgs() {
  cp "$closure/registration" "$work/nix-path-registration"
  argv=("$mksquashfs" "$work/nix-path-registration" "${paths[@]/#/$root}" "$1" -no-hardlinks -keep-as-directory -all-root
    -noappend -b 1048576 $(mksquashfs_codec "$2") -processors "$jobs" -no-progress -quiet)
}

# run runs argv, and leaves what it said in $work/log.
run() { "${argv[@]}" >"$work/log" 2>&1; }

# store_read runs argv and prints the MiB that it read of the store's files. With a file for each
# thread no line of strace's is torn.
store_read() {
  local status=0
  mkdir "$work/trace"
  strace -ff --seccomp-bpf -qq -s 0 -y -e trace=read,pread64,readv,preadv,preadv2 -e status=successful \
    -o "$work/trace/t" "${argv[@]}" >"$work/log" 2>&1 || status=$?
  [ $status -ne 0 ] || find "$work/trace" -type f -exec cat {} + | awk -v store="<$root/nix/store/" '
    index($0, store) { n += $NF } END { printf "%.1f\n", n / 1048576 }'
  rm -r "$work/trace"
  return $status
}

fail() { # fail NAME CELLS: a row of so many cells behind the name
  failed=1
  local message
  message=$(grep -a -m 1 -v '^$' "$work/log" | tr '|' /) || message='no message'
  echo "| $1 | failed: $message |$(printf ' |%.0s' $(seq 2 "$2"))"
}

# same IMAGE REFERENCE
same() { cmp "$1" "$2" >"$work/log" 2>&1; }

# row TIMES NAME IMAGE REFERENCE READ [PREPARE...] runs argv so many times, each time with what is to be prepared
# before, and compares what it makes where there is a reference. It prints medians, and the most of the memory.
row() {
  local round
  rm -f "$work/time"
  for ((round = 0; round < $1; round++)); do
    rm -f "$3"
    if ! "${@:6}" || ! timed || { [ -n "$4" ] && ! same "$3" "$4"; }; then
      fail "$2" 5
      return 0
    fi
  done
  awk -v name="$2$( (($1 == 1)) || echo ", median of $1")" -v size="$(stat -c %s "$3")" -v read="$5" '
    function median(a,   i, j, t) {
      for (i = 2; i <= NR; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
      return (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2
    }
    { wall[NR] = $1; cpu[NR] = $2 + $3; if ($4 > peak) peak = $4 }
    END { printf "| %s | %d | %.2f | %.2f | %.0f | %s |\n", name, size, median(wall), median(cpu), peak / 1024, read }' "$work/time"
}

# timed runs argv, and appends "wall user system KiB".
timed() { /usr/bin/time -q -a -f '%e %U %S %M' -o "$work/time" "${argv[@]}" >"$work/log" 2>&1; }

# --- Times

times() {
  local codec=$compression old=$work/old.squashfs new=$work/1-leaf.squashfs image=$work/image cache=$work/cache read
  echo "| | bytes | wall s | CPU s | peak MiB | MiB read |"
  echo "|---|--:|--:|--:|--:|--:|"

  nixpkgs "$image" zstd:3; read=$(store_read || true)
  nixpkgs "$image" "$codec"
  row 1 "mksquashfs $(version_of mksquashfs "$mksquashfs")" "$image" '' "$read"

  press "$changes/0-old" "$old" --cache off
  row 1 'isopress, no cache' "$old" '' ''
  [ -e "$old" ] || return 0
  compression=zstd:3; press "$changes/0-old" "$image" --cache "$work/traced"; read=$(store_read || true); compression=$codec
  rm -rf "$work/traced"
  press "$changes/0-old" "$image" --cache "$cache"
  row 1 'isopress, cold' "$image" "$old" "$read"
  read=$(store_read || true)
  row "$repeat" 'isopress, nothing changed' "$image" "$old" "$read"

  press "$leaf" "$new" --cache off
  run || { fail "the leaf's image without a cache" 5; return 0; }
  press "$leaf" "$image" --cache "$work/copy"
  copy_cache; read=$(store_read || true)
  row "$repeat" 'isopress, one leaf changed' "$image" "$new" "$read" copy_cache
  rm -rf "$work/copy"
  press "$leaf" "$image" --base "$old" --cache off; read=$(store_read || true)
  row 1 'isopress, one leaf changed, --base' "$image" "$new" "$read"

  argv=(cp --reflink=never "$old" "$image")
  row "$repeat" 'cp --reflink=never' "$image" "$old" ''
  argv=(sh -c "cp --reflink=never '$old' '$image' && sync '$image'")
  row "$repeat" 'cp --reflink=never, and sync' "$image" "$old" ''
  rm "$image"
}

# copy_cache makes $work/copy what the cache was before the leaf changed, written back, so that no run waits for it.
copy_cache() {
  rm -rf "$work/copy"
  cp -a "$work/cache" "$work/copy"
  sync -f "$work/copy"
}

# --- Shares

# list_bytes IMAGE: what lies behind the squashfs's own bytes, which end at a multiple of 4096.
list_bytes() {
  local used
  used=$(od -An -t u8 -j 40 -N 8 "$1") # bytes_used
  echo $(($(stat -c %s "$1") - (used + 4095) / 4096 * 4096))
}

shares() {
  local dir image numbers
  echo "| change | files changed, bytes | image | bytes in new chunks | share | new chunks |"
  echo "|---|--:|--:|--:|--:|--:|"
  for dir in "$changes"/[1-9]-*; do
    image=$work/${dir##*/}.squashfs
    if ! variant "$dir" "$image" || ! numbers=$("$work/chunks" "$work/old.squashfs" "$image" 2>"$work/log"); then
      fail "$(cat "$dir/about")" 5
      continue
    fi
    awk -v about="$(cat "$dir/about")" -v changed="$(cat "$dir/bytes")" '
      { printf "| %s | %d | %d | %d | %.2f %% | %d of %d |\n", about, changed, $1, $2, $3, $5, $4 }' <<< "$numbers"
    [ -n "$keep" ] || rm "$image"
  done
}

# variant CLOSURE IMAGE makes the image with the cache, if it is not there, and compares it with one made without.
variant() {
  [ ! -e "$2" ] || return 0
  press "$1" "$2" --cache "$work/cache"
  run || return 1
  [ -z "$quick" ] || return 0
  press "$1" "$work/image" --cache off
  run && same "$2" "$work/image" || return 1
  rm "$work/image"
}

find "$root" -type f -exec cat {} + >/dev/null # nobody pays for the disk
echo "$(machine), $jobs used; page cache filled; load before: $(cut -d ' ' -f 1 /proc/loadavg)."
"$isopress" version | sed 's/^/    /'
echo
echo "    $command_line"
echo
echo "${#paths[@]} store paths, $(find "${paths[@]}" -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%d", n }') bytes in files; $compression. $(cat "$leaf/about")."
echo
times
[ -e "$work/old.squashfs" ] || exit 1
echo
echo "The list of blocks takes $(list_bytes "$work/old.squashfs") of the image's $(stat -c %s "$work/old.squashfs") bytes," \
  "the cache $(du -sb "$work/cache" | cut -f 1)."
echo
shares
[ -z "$failed" ]
