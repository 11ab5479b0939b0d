#!/bin/bash
# Kill builds of a closure at random moments (SIGKILL), let the disk be full for others, and check after each
# that nothing that is not whole lies under the output's name, that the cache is sound, and that the next build
# gives the bytes that a build without a cache gives. The last line sums up; the exit status is 1 where
# something was wrong.
#
#   testdata/bench/kill.sh --closure DIR [OPTIONS]
#
#   --closure DIR           store-paths, registration and result (the top level), as testdata/make-closure makes
#                           them: built as an ISO; without result as a squashfs
#   --compression CODEC     (zstd:3; below it blocks are not kept)
#   --kills N               how many builds are killed at work (50)
#   --disks LIST            sizes of disks that the cache and the output are on (fractions of what they take:
#                           .02,.1,.3,.6,.9); as root only
#
# Before a kill a part of the cache is removed, so that builds are at all stages between cold and warm: of five
# rounds one begins without a cache, three with a part of it, one with all. One in five is killed at the very
# end, when the output is written and the cache is trimmed; one in five has a second build beside it that is
# killed as well, and one in five a "cache gc".
#
# Environment: ISOPRESS names the program (bin/isopress); JOBS are its workers (2); TMPDIR is where it all
# goes: about five times the image. SEED makes a run's moments those of another.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
jobs=${JOBS:-2}

closure='' codec=zstd:3 kills=50 disks=.02,.1,.3,.6,.9
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || usage
  case $1 in
    --closure) closure=$2 ;;
    --compression) codec=$2 ;;
    --kills) kills=$2 ;;
    --disks) disks=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[ -n "$closure" ] || usage
need "$isopress" "go build -o bin/ ./cmd/..."
for f in store-paths registration; do [ -r "$closure/$f" ] || die "$closure/$f: not found"; done

work=$(mktemp -d)
disk=$work/disk
pids=()
clean() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  umount "$disk" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP
RANDOM=${SEED:-$(date +%N | sed 's/^0*//')}

verb=(squashfs)
[ ! -e "$closure/result" ] || verb=(build --system "$(readlink -f "$closure/result")")
# build OUT CACHE
build() {
  exec "$isopress" "${verb[@]}" --closure "$closure/store-paths" --registration "$closure/registration" \
    --compression "$codec" -j "$jobs" -q -o "$1" --cache "$2"
}

cache=$work/cache out=$work/out/image
wrong=0
bad() { echo "kill.sh: $*" >&2; wrong=$((wrong + 1)); }

# now prints the milliseconds of a clock.
now() { echo $(($(date +%s%N) / 1000000)); }

# check_out FILE: what bears an output's name is whole.
check_out() { [ ! -e "$1" ] || cmp -s "$1" "$work/want" || bad "$1 is there, and is not whole ($2)"; }

# check_cache CACHE AFTER
check_cache() { [ ! -e "$1" ] || "$isopress" cache verify --cache "$1" -q || bad "the cache is damaged after $2"; }

# next_build CACHE AFTER: the build that follows is right.
next_build() {
  if ! (build "$work/next" "$1") > "$work/log" 2>&1; then bad "the build after $2 failed: $(head -n 1 "$work/log")"
  elif ! cmp -s "$work/next" "$work/want"; then bad "the build after $2 gave other bytes"
  fi
  [ ! -s "$work/log" ] || [ "${3:-}" = warns ] || bad "the build after $2 said: $(head -n 1 "$work/log")"
  check_cache "$1" "the build after $2"
  rm -f "$work/next"
}

# thin ROUND leaves nothing of the cache, a part of it, or all.
thin() {
  case $(($1 % 5)) in
    0) rm -rf "$cache" ;;
    4) ;;
    *) find "$cache" -type f -path '*/??/*' | awk -v seed="$RANDOM" -v share="0.$((RANDOM % 10))" \
      'BEGIN { srand(seed) } rand() < share' | xargs -r -d '\n' rm -f ;;
  esac
}

# written waits until the build PID has written its output, or ended.
written() {
  local size
  while kill -0 "$1" 2>/dev/null; do
    size=$(stat -c %s "${out%/*}"/.image* 2>/dev/null | sort -n | tail -n 1 || true)
    if [ "${size:-0}" -ge "$whole" ]; then return; fi
    sleep 0.005
  done
}

pause() { sleep "$(awk -v ms="$1" 'BEGIN { printf "%.3f", ms / 1000 }')"; }

# end PID kills it, and is true where it was at work.
end() {
  kill -KILL "$1" 2>/dev/null || true
  local status=0
  wait "$1" 2>/dev/null || status=$?
  [ "$status" = 137 ]
}

# round N kills one build, and what goes on beside it.
round() {
  local n=$1 pid other='' left
  thin "$((n / 5))"
  rm -rf "$work/out"; mkdir "$work/out"
  build "$out" "$cache" > "$work/log.killed" 2>&1 & pid=$!; pids=("$pid")
  case $((n % 5)) in
    1) build "$work/out/other" "$cache" > /dev/null 2>&1 & other=$!; pids+=("$other") ;;
    2) [ ! -e "$cache" ] || { "$isopress" cache gc --cache "$cache" --limit 20M -q & other=$!; pids+=("$other"); } ;;
  esac
  if [ $((n % 5)) = 0 ]; then written "$pid"; pause $((RANDOM % 200)); else pause $(((RANDOM * 32768 + RANDOM) % took)); fi
  if end "$pid"; then killed=$((killed + 1)); fi
  if [ -n "$other" ]; then end "$other" && killed=$((killed + 1)); fi || true
  pids=()
  left=$(find "$cache" -name 'tmp-*' 2>/dev/null | wc -l)
  torn=$((torn + left))
  check_out "$out" "round $n"; check_out "$work/out/other" "round $n"
  check_cache "$cache" "round $n"
  next_build "$cache" "round $n"
}

# full SIZE WHERE: a build whose cache, or output, or both, is on a disk of so many bytes.
full() {
  local where=$2 c=$cache o=$work/out/image after="a full disk of $1 bytes for $2"
  mkdir -p "$disk" "$work/out"; rm -f "$work/out"/*; rm -rf "$cache"
  mount -t tmpfs -o "size=$1,mode=0700" tmpfs "$disk"
  [ "$where" = output ] || c=$disk/cache
  [ "$where" = cache ] || o=$disk/image
  if (build "$o" "$c") > "$work/log" 2>&1; then
    if [ "$where" = cache ] && ! grep -q 'nothing more is kept' "$work/log"; then bad "no warning with $after"; fi
    cmp -s "$o" "$work/want" || bad "other bytes with $after"
  else
    [ "$where" != cache ] || bad "failed with $after: $(head -n 1 "$work/log")"
    grep -qE 'no space left on device|MiB needed' "$work/log" || bad "with $after it said: $(head -n 1 "$work/log")"
    [ -z "$(find "${o%/*}" -maxdepth 1 -name '*image*')" ] || bad "an output is left with $after"
  fi
  check_cache "$c" "$after"
  rm -f "$o"
  next_build "$c" "$after" warns
  umount "$disk"
  fulls=$((fulls + 1))
}

echo "$(machine), $jobs workers; $(wc -l < "$closure/store-paths") store paths; isopress ${verb[*]} --compression $codec"
begin=$(now)
(build "$work/want" off)
took=$(($(now) - begin))
whole=$(stat -c %s "$work/want")
echo "without a cache: $whole bytes in $took ms"
begin=$(now)
next_build "$cache" "none"
[ "$(($(now) - begin))" -lt "$took" ] || took=$(($(now) - begin))
room=$(du -sb "$cache" | cut -f 1)

killed=0 rounds=0 torn=0 fulls=0
while [ "$killed" -lt "$kills" ] && [ "$rounds" -lt $((10 * kills)) ]; do
  round "$rounds"
  rounds=$((rounds + 1))
done
echo "$killed killed at work in $rounds rounds; they left $torn temporary files in the cache"
holds=$("$isopress" cache info --cache "$cache" | head -n 1 | sed 's/^.*: //')
if [ "$(id -u)" = 0 ]; then
  for share in ${disks//,/ }; do
    full "$(awk -v s="$share" -v n="$room" 'BEGIN { printf "%d", s * n }')" cache
    full "$(awk -v s="$share" -v n="$whole" 'BEGIN { printf "%d", s * n }')" output
    full "$(awk -v s="$share" -v n="$((whole + room))" 'BEGIN { printf "%d", s * n }')" both
  done
else
  echo "no full disks: not root"
fi
[ "$killed" -ge "$kills" ] || bad "only $killed were killed at work"
echo "$killed kills, $fulls full disks, $wrong wrong; the cache held $holds"
[ "$wrong" = 0 ]
