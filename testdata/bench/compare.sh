#!/bin/bash
# Build the same squashfs images with mksquashfs, gensquashfs and isopress, and print a table in
# Markdown for each input and compression: size, time, memory. All run here and now, with the same
# codec, level and block size (1 MiB), and each image is read back before its row is printed.
#
#   testdata/bench/compare.sh [OPTIONS] INPUT... [COMPRESSION...]
#
# INPUT, of which there may be several:
#   --closure DIR           store-paths and registration (testdata/make-closure), with mksquashfs
#                           called as nixpkgs does
#   --tree [NAME=]DIR[:DIR...]  a tree, or several side by side in one
#   --tree second           Go's own source tree and Python's library: a tree that is no closure
# COMPRESSION: zstd:LEVEL, xz (x86 filter where it pays), gzip:LEVEL, lz4, lz4:hc (default: zstd:3 zstd:19 xz gzip:9 lz4:hc)
# OPTIONS:
#   --mksquashfs PROGRAM    one more mksquashfs; ratios are to the first (default: MKSQUASHFS2 where
#                           it is set, then MKSQUASHFS)
#   --tools LIST            which of mksquashfs,gensquashfs,isopress
#   --also 'TOOL FLAGS'     one more row: 'isopress --order directory', 'mksquashfs -tailends'
#   --repeat N              run the fast codecs (zstd:1-5, lz4) N times, the tools taking turns;
#                           medians of the times, most of the memory
#   --cold                  drop the page cache before each run (as root) rather than fill it once
#   --check                 compare each image with the input: all content, and of a tree the metadata and,
#                           where getfattr is installed, the xattrs; else only the number of entries
#
# A row that fails says why and the rest goes on; the exit status is 1 then.
#
# Environment: MKSQUASHFS, MKSQUASHFS2, GENSQUASHFS, UNSQUASHFS and ISOPRESS name the programs
# (default: those on PATH, bin/isopress); ISOPRESS_FLAGS is --also "isopress $ISOPRESS_FLAGS"; JOBS are
# the processors for each tool (2); TMPDIR is where the image and trees put together go.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
gensquashfs=${GENSQUASHFS:-gensquashfs}
unsquashfs=${UNSQUASHFS:-unsquashfs}
jobs=${JOBS:-2}
block=1048576

# --- Options

command_line="testdata/bench/compare.sh $*"
inputs=() codecs=() mksquashfs=() also=() tools=mksquashfs,gensquashfs,isopress repeat=1 cold='' check='' failed=''
while [ $# -gt 0 ]; do
  option=$1; shift
  case $option in
    --cold) cold=1; continue ;;
    --check) check=1; continue ;;
    --*) [ $# -gt 0 ] || usage ;;
    -*) usage ;;
    *) codecs+=("$option"); continue ;;
  esac
  case $option in
    --closure | --tree) inputs+=("${option#--} $1") ;;
    --mksquashfs) mksquashfs+=("$1") ;;
    --tools) tools=$1 ;;
    --also) also+=("$1") ;;
    --repeat) repeat=$1 ;;
    *) usage ;;
  esac
  shift
done
[ ${#inputs[@]} -gt 0 ] || usage
[ ${#codecs[@]} -gt 0 ] || codecs=(zstd:3 zstd:19 xz gzip:9 lz4:hc)
[ ${#mksquashfs[@]} -gt 0 ] || mksquashfs=(${MKSQUASHFS2:+"$MKSQUASHFS2"} "${MKSQUASHFS:-mksquashfs}")
[ -z "${ISOPRESS_FLAGS:-}" ] || also+=("isopress $ISOPRESS_FLAGS")
[ -z "$cold" ] || [ -w /proc/sys/vm/drop_caches ] || die "--cold: only root can drop the page cache"
[ -x /usr/bin/time ] || die "/usr/bin/time: not found (Debian: apt install time)"
command -v "$unsquashfs" >/dev/null || die "$unsquashfs: not found (Debian: apt install squashfs-tools)"
if [ -n "$check" ] && [[ " ${inputs[*]}" = *" tree "* ]] && ! command -v getfattr >/dev/null; then
  echo "compare.sh: --check: xattrs are not compared: getfattr: not found (Debian: apt install attr)" >&2
fi

work=$(mktemp -d)
clean() { umount -l "$work/out" 2>/dev/null || true; rm -rf "$work"; }
trap clean EXIT
trap 'exit 130' INT TERM HUP
image=$work/image

# --- Rows: what is run for each input and codec, in the order of the table

row_tool=() row_program=() row_flags=() row_name=()
add_row() { # add_row TOOL PROGRAM FLAGS
  command -v "$2" >/dev/null || die "$2: not found (Debian: apt install squashfs-tools squashfs-tools-ng; isopress: go build -o bin/ ./cmd/...)"
  row_tool+=("$1") row_program+=("$2") row_flags+=("$3") row_name+=("$1 $(version_of "$1" "$2")${3:+ $3}")
}

program_of() { # program_of TOOL
  case $1 in
    mksquashfs) echo "${mksquashfs[0]}" ;;
    gensquashfs) echo "$gensquashfs" ;;
    isopress) echo "$isopress" ;;
    *) die "$1: no tool of this comparison" ;;
  esac
}

IFS=, read -ra list <<< "$tools"
for tool in "${list[@]}"; do
  program=$(program_of "$tool")
  add_row "$tool" "$program" ''
  [ "$tool" != mksquashfs ] || for program in "${mksquashfs[@]:1}"; do add_row mksquashfs "$program" ''; done
done
for extra in "${also[@]}"; do
  program=$(program_of "${extra%% *}")
  add_row "${extra%% *}" "$program" "${extra#* }"
done

# --- Inputs: each sets name, about (what the table's heading says), kind, and what commands need

use_closure() { # use_closure DIR
  local f
  for f in store-paths registration; do [ -r "$1/$f" ] || die "$1/$f: not found"; done
  kind=closure closure=$1 name="closure $1"
  mapfile -t sources < "$closure/store-paths"
  has_files "$closure/store-paths"
  cp "$closure/registration" "$work/nix-path-registration"
  pack_file > "$work/pack"
  about="${#sources[@]} store paths. mksquashfs as nixpkgs calls it; gensquashfs with a pack file of the same names and modes"
}

# has_files WHAT: sources without a regular file, as links that find does not follow, measure nothing.
has_files() { [ -n "$(find "${sources[@]}" -type f -print -quit)" ] || die "$1: no regular file"; }

# gensquashfs takes a directory or a list. The list leaves the store where it is, and gives owner, date
# and names without hard links as the other two do.
pack_file() {
  find "${sources[@]}" -printf '%y\t%m\t%P\t%H\t%l\n' | awk -F'\t' '
    function quoted(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\"" }
    { top = $4; sub(/.*\//, "", top); path = quoted("/" top ($3 == "" ? "" : "/" $3)) }
    $1 == "d" { print "dir", path, $2, 0, 0 }
    $1 == "f" { print "file", path, $2, 0, 0 }
    $1 == "l" { print "slink", path, $2, 0, 0, $5 }'
  echo "file /nix-path-registration 0444 0 0 $work/nix-path-registration"
}

use_tree() { # use_tree [NAME=]DIR[:DIR...]|second
  local dirs
  kind=tree name=${1%%=*}
  if [ "$1" = second ]; then
    second_tree
  else
    IFS=: read -ra dirs <<< "${1#*=}"
    [ "$name" != "$1" ] || name=$(basename "${dirs[0]}")
    if [ ${#dirs[@]} = 1 ]; then
      tree=$(realpath "${dirs[0]}")
      about=$tree
    else
      copy_of "${dirs[@]}"
      about="copies of ${dirs[*]} side by side"
    fi
  fi
  [ -d "$tree" ] || die "$tree: not a directory"
  name="tree $name" sources=("$tree")
  has_files "$tree"
}

second_tree() {
  local goroot python stdlib
  goroot=$(go env GOROOT)
  python=/usr/bin/python3; [ -x $python ] || python=python3
  stdlib=$($python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  copy_of "$goroot/src" "$stdlib"
  mv "$tree/src" "$tree/go"
  about="copies of $goroot/src ($(go env GOVERSION)) and $stdlib side by side"
}

# --- Commands

gensquashfs_codec() {
  case $1 in
    zstd:* | gzip:*) echo "-c ${1%:*} -X level=${1#*:}" ;;
    xz*) echo "-c xz -X x86" ;;
    lz4:hc) echo "-c lz4 -X hc" ;;
    *) echo "-c $1" ;;
  esac
}

# command_of TOOL PROGRAM FLAGS CODEC sets argv, in which owners, dates and xattrs of a tree are kept.
# shellcheck disable=SC2207,SC2206 # flags are words
command_of() {
  case $1-$kind in
    mksquashfs-closure) argv=("$2" "$work/nix-path-registration" "${sources[@]}" "$image"
      -no-hardlinks -keep-as-directory -all-root) ;;
    mksquashfs-tree) argv=("$2" "$tree" "$image") ;;
    gensquashfs-closure) argv=("$2" -F "$work/pack" -D "$(dirname "${sources[0]}")" -d mtime=1) ;;
    gensquashfs-tree) argv=("$2" -D "$tree" -k -x) ;;
    isopress-closure) argv=("$2" squashfs --closure "$closure/store-paths" --registration "$closure/registration") ;;
    isopress-tree) argv=("$2" squashfs --root "$tree") ;;
  esac
  case $1 in
    mksquashfs) argv+=(-noappend -b $block $(mksquashfs_codec "$4") -processors "$jobs" -no-progress -quiet $3) ;;
    gensquashfs) argv+=(-b $block $(gensquashfs_codec "$4") -j "$jobs" -e -q $3 "$image") ;;
    isopress) argv+=(--compression "$4" --block-size $block --cache off -j "$jobs" -q $3 -o "$image") ;;
  esac
}

# shown is the command as a reader wants to see it, without 200 store paths.
shown() {
  local words=("${argv[@]}")
  words[0]=$(basename "${words[0]}")
  [ "$kind" = tree ] || words=("${words[@]/#${sources[0]%/*}\/*/}")
  # shellcheck disable=SC2001 # words that became empty stand side by side
  sed 's/   */ STORE-PATHS... /' <<< "${words[*]//"$work/"}"
}

# --- Measuring

fast() { case $1 in zstd:[1-5] | lz4) true ;; *) false ;; esac; }

# warm reads the input once, so that nobody pays for the disk.
warm() { find "${sources[@]}" -type f -exec cat {} + >/dev/null; }

# run_once ROW CODEC appends "size wall cpu MiB" to the row's results, or what went wrong to its failure.
run_once() {
  local tool=${row_tool[$1]} result=$work/row$1 message
  command_of "$tool" "${row_program[$1]}" "${row_flags[$1]}" "$2"
  rm -f "$image"
  [ -z "$cold" ] || { sync; echo 3 > /proc/sys/vm/drop_caches; }
  if ! /usr/bin/time -q -f '%e %U %S %M' -o "$work/time" "${argv[@]}" >"$work/log" 2>&1; then
    message=$(grep -a -m 1 -v '^$' "$work/log" || true)
    echo "${message:-no message}" > "$result.failed"
  elif [ ! -s "$result" ] && ! message=$(verify); then
    echo "$(stat -c %s "$image") bytes, but the image is wrong: $message" > "$result.failed"
  else
    awk -v size="$(stat -c %s "$image")" '{ print size, $1, $2 + $3, $4 / 1024 }' "$work/time" >> "$result"
  fi
  rm -f "$image"
}

# verify says what is wrong with the image, if anything is. It is read by the kernel where that can
# be had (as root), else by unsquashfs, which wants room.
verify() {
  local out=$work/out status=0 flags=(-no-progress -f)
  mkdir -p "$out"
  if mount -t squashfs -o ro,loop "$image" "$out" 2>/dev/null; then
    differences "$out" > "$work/verify" 2>&1 || status=1
    umount "$out"
  else
    [ "$(id -u)" = 0 ] || flags+=(-user-xattrs) # only root can set others
    "$unsquashfs" "${flags[@]}" -d "$out" "$image" >/dev/null 2>"$work/verify" &&
      differences "$out" > "$work/verify" 2>&1 || status=1
    chmod -R u+w "$out"; rm -rf "$out"
  fi
  head -n 1 "$work/verify"
  return $status
}

# differences OUT fails with a message where the image's tree is not the input.
differences() {
  local want got source
  want=$(find "${sources[@]}" -printf '\n' | wc -l)
  [ "$kind" = tree ] || want=$((want + 2)) # the root and the registration
  got=$(find "$1" -printf '\n' | wc -l)
  [ "$got" = "$want" ] || { echo "$got entries where $want are expected"; return 1; }
  [ -n "$check" ] || return 0
  if [ "$kind" = tree ]; then
    same_content "$tree" "$1" && same_list metadata "$tree" "$1" && same_list xattrs "$tree" "$1"
    return
  fi
  cmp <(sort "$work/nix-path-registration") <(sort "$1/nix-path-registration") || return
  for source in "${sources[@]}"; do same_content "$source" "$1/${source##*/}" || return; done
}

# same_content A B: devices, pipes and sockets, for which diff says 1, are left to metadata; 2 is that diff
# could not read something.
same_content() {
  local out status=0
  out=$(diff -rq --no-dereference "$1" "$2" 2>&1) || status=$?
  out=$(grep -Ev '^File .* is a (fifo|socket|character|block)' <<< "$out") || true
  [ $status -gt 1 ] || [ -n "$out" ] || return 0
  echo "${out:-diff: exit status $status}"
  return 1
}

# same_list COMMAND A B: COMMAND prints the same lines for both.
same_list() {
  local out status=0
  "$1" "$2" > "$work/want" || { echo "$1 of $2 failed"; return 1; }
  "$1" "$3" > "$work/got" || { echo "$1 of $3 failed"; return 1; }
  out=$(diff -a --old-line-format='wanted %L' --new-line-format='found %L' --unchanged-line-format= \
    "$work/want" "$work/got") || status=$?
  [ $status = 0 ] || echo "$1: ${out:-diff: exit status $status}"
  return $status
}

# metadata is that of all but the root, which is the directory's own, without the number of hard links,
# which gensquashfs 1.2 does not keep.
metadata() { find "$1" -mindepth 1 -printf '%P %y %m %U %G %.10T@ %l\n' | sort; }

# xattrs are those of all but the root, of the namespaces that squashfs has; only of user where verify
# could unpack no others. The kernel does not support them on an image that has none.
xattrs() {
  local namespaces='user|trusted|security'
  command -v getfattr >/dev/null || return 0
  [ "$(id -u)" = 0 ] || namespaces=user
  (cd "$1" && getfattr -RPhd -e hex -m "^($namespaces)\\." .) > "$work/xattrs" 2>"$work/log" || {
    [ -s "$work/log" ] && ! grep -v ': Operation not supported$' "$work/log" >&2 || return 1
  }
  awk '/^# file: / { file = substr($0, 9); next } $0 != "" && file != "." { print file, $0 }' "$work/xattrs" | sort
}

# print_row ROW REFERENCE prints the row's medians.
print_row() {
  local result=$work/row$1
  if [ -e "$result.failed" ]; then
    failed=1
    echo "| ${row_name[$1]} | failed: $(tr '|' / < "$result.failed") | | | | |"
    return
  fi
  awk -v name="${row_name[$1]}" -v reference="$2" '
    function median(a, n) { asort_(a, n); return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2 }
    function asort_(a, n,   i, j, t) {
      for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
    }
    { size = $1; wall[NR] = $2; cpu[NR] = $3; if ($4 > peak) peak = $4 }
    END { printf "| %s | %d | %s | %.1f | %.1f | %.0f |\n", name, size,
      reference ? sprintf("%.4f", size / reference) : "", median(wall, NR), median(cpu, NR), peak }' "$result"
}

# table CODEC runs all rows and prints the table.
table() {
  local row times=1 round reference
  rm -f "$work"/row*
  if fast "$1"; then times=$repeat; fi
  for ((round = 0; round < times; round++)); do
    for row in "${!row_tool[@]}"; do
      [ -e "$work/row$row.failed" ] || run_once "$row" "$1"
    done
  done
  echo
  echo "| $1$( ((times == 1)) || echo ", median of $times") | bytes | ratio | wall s | CPU s | peak MiB |"
  echo "|---|--:|--:|--:|--:|--:|"
  reference=$(cut -d ' ' -f 1 "$work/row0" 2>/dev/null | head -n 1 || true)
  for row in "${!row_tool[@]}"; do print_row "$row" "$reference"; done
}

heading() {
  local row
  echo
  echo "### $name"
  echo
  echo "$about; $(find "${sources[@]}" -type f -printf '\n' | wc -l) files," \
    "$(find "${sources[@]}" -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%d", n }') bytes."
  echo
  for row in "${!row_tool[@]}"; do
    command_of "${row_tool[$row]}" "${row_program[$row]}" "${row_flags[$row]}" "${codecs[0]}"
    echo "    $(shown)"
  done | uniq
}

echo "$(machine), $jobs used; page cache ${cold:+not }filled; load before: $(cut -d ' ' -f 1 /proc/loadavg)."
"$isopress" version | sed 's/^/    /'
echo
echo "    $command_line"
for input in "${inputs[@]}"; do
  "use_${input%% *}" "${input#* }"
  heading
  warm
  for codec in "${codecs[@]}"; do table "$codec"; done
  rm -rf "$work/tree"
done
[ -z "$failed" ] || exit 1
