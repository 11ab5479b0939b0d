#!/bin/bash
# Measure what --order similar costs who reads the image: build it with both orders, and with mksquashfs
# for comparison, and have the kernel read, with nothing in any cache: the whole tree in the order of its
# names; one of the directories at its top (a store path, a version of a program); 200 small files from all
# over; and the modules that a Python start-up loads. A table in Markdown, a row each.
#
#   testdata/bench/readcost.sh [OPTIONS] INPUT...
#
# INPUT, of which there may be several:
#   --closure DIR           store-paths and registration (testdata/make-closure)
#   --tree [NAME=]DIR[:DIR...]  a tree, or several side by side in one
# OPTIONS:
#   --compression CODEC     as isopress takes it: zstd:LEVEL (default: zstd:19)
#   --repeat N              medians of N runs (default: 3)
#   --without-mksquashfs    only the two orders
#   --count                 mount nothing, only count blocks: for a machine that does other work
#
# The time is the kernel's of this machine, through a loop device, and so wants root. Where it cannot
# mount, only the blocks are printed that it would expand (testdata/bench/readcost), which are the same
# everywhere: a kernel keeps three fragment blocks expanded, unless it was configured to keep more, and
# reads and expands the others again and again. "MiB read" is what the loop device read, metadata
# included, "MiB of blocks" what the count says.
#
# What fails, an image or a row, says why and the rest goes on; the exit status is 1 then.
#
# Environment: MKSQUASHFS and ISOPRESS name the programs (default: on PATH, bin/isopress); JOBS are the
# processors for building (2); TMPDIR is where the images and trees put together go.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
mksquashfs=${MKSQUASHFS:-mksquashfs}
jobs=${JOBS:-2}

inputs=() compression=zstd:19 repeat=3 orders=(mksquashfs directory similar) count_only='' failed=''
command_line="testdata/bench/readcost.sh $*"
while [ $# -gt 0 ]; do
  option=$1; shift
  case $option in
    --without-mksquashfs) orders=(directory similar); continue ;;
    --count) count_only=1; continue ;;
  esac
  [ $# -gt 0 ] || usage
  case $option in
    --closure | --tree) inputs+=("${option#--} $1") ;;
    --compression) compression=$1 ;;
    --repeat) repeat=$1 ;;
    *) usage ;;
  esac
  shift
done
[ ${#inputs[@]} -gt 0 ] || usage

programs=("$isopress") mksquashfs_flags=()
if [ "${orders[0]}" = mksquashfs ]; then
  programs+=("$mksquashfs")
  flags=$(mksquashfs_codec "$compression")
  read -ra mksquashfs_flags <<< "$flags"
fi
for f in "${programs[@]}"; do command -v "$f" >/dev/null || die "$f: not found"; done

work=$(mktemp -d)
clean() { umount -l "$work/mnt" 2>/dev/null || true; rm -rf "$work"; }
trap clean EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work/mnt"
(cd "$here/readcost" && go build -o "$work/readcost" .) || die "go build failed"

# --- Images

# use INPUT sets name, and what commands need: paths and closure, or tree.
use() {
  local kind=${1%% *} what=${1#* } dirs
  closure='' tree='' name=${what%%=*}
  if [ "$kind" = closure ]; then
    closure=$what name="closure $what"
    mapfile -t paths < "$closure/store-paths"
    cp "$closure/registration" "$work/nix-path-registration"
    return
  fi
  IFS=: read -ra dirs <<< "${what#*=}"
  tree=$(realpath "${dirs[0]}")
  if [ ${#dirs[@]} -gt 1 ]; then copy_of "${dirs[@]}"; fi
  [ -d "$tree" ] || die "$tree: not a directory"
  name="tree $name"
}

# build ORDER makes $work/ORDER.squashfs; it fails with what the tool says.
build() {
  local image=$work/$1.squashfs argv
  if [ "$1" = mksquashfs ]; then
    argv=("$mksquashfs")
    if [ -n "$closure" ]; then argv+=("$work/nix-path-registration" "${paths[@]}" "$image" -no-hardlinks -keep-as-directory -all-root)
    else argv+=("$tree" "$image"); fi
    argv+=(-noappend -b 1048576 "${mksquashfs_flags[@]}" -processors "$jobs" -no-progress -quiet)
  else
    argv=("$isopress" squashfs)
    if [ -n "$closure" ]; then argv+=(--closure "$closure/store-paths" --registration "$closure/registration")
    else argv+=(--root "$tree"); fi
    argv+=(--order "$1" --compression "$compression" --cache off -j "$jobs" -q -o "$image")
  fi
  "${argv[@]}" >"$work/log" 2>&1
}

# --- Sets of files: lists of paths, each ended by NUL, from a list of all of them

# files [TEST...] lists the image's regular files, those that pass find's tests.
files() {
  if [ -n "$closure" ]; then (cd "${paths[0]%/*}" && find "${paths[@]##*/}" -type f "$@" -printf '%p\0')
  else find "$tree" -type f "$@" -printf '%P\0'; fi
}

# all lists the image's regular files in the order in which a walk meets them.
all() { files | tr / '\001' | sort -z | tr '\001' /; }

# top takes the directory with the most files; the last one, where several have as many.
top() {
  local dir
  dir=$(tr '\0' '\n' < "$work/all" | sed 's|/.*||' | uniq -c | sort -k1,1n -k2 | tail -n 1 | awk '{ print $2 }')
  awk -v RS='\0' -v ORS='\0' -v dir="$dir/" 'index($0, dir) == 1' "$work/all"
}

# small takes 200 files under 64 KiB: those whose path has the smallest hash, in that order.
small() {
  files -size -64k | python3 -c '
import hashlib, sys
paths = sys.stdin.buffer.read().split(b"\0")[:-1]
paths.sort(key=lambda p: hashlib.sha256(p).digest())
sys.stdout.buffer.write(b"".join(p + b"\0" for p in paths[:200]))'
}

# python takes what loading some modules reads from the first standard library of the tree: the compiled
# file where there is one, else the source.
python() {
  python3 - "$work/all" <<'END'
import argparse, json, os, subprocess, sys, sysconfig, urllib.request
have = open(sys.argv[1], "rb").read().split(b"\0")[:-1]
base = next((p for p in have if p.endswith(b"/encodings/__init__.py")), None)
if base is None: sys.exit()
lib, have = base[:-len(b"encodings/__init__.py")], set(have)
cached = [p for p in have if p.startswith(lib + b"__pycache__/os.cpython-") and p.endswith(b".pyc") and b".opt-" not in p]
tag = cached[0].split(b".")[-2] if cached else b""
stdlib = sysconfig.get_path("stdlib")
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if not file.startswith(stdlib + "/"): continue
    source = os.fsencode(os.path.relpath(file, stdlib))
    dir, name = os.path.split(source)
    for p in (os.path.join(dir, b"__pycache__", name[:-3] + b"." + tag + b".pyc"), source):
        if lib + p in have:
            sys.stdout.buffer.write(lib + p + b"\0")
            break
END
}

# --- Measuring

# read_cold IMAGE LIST prints wall and system seconds, and bytes that the loop device read.
read_cold() {
  local stat before status=0
  sync; echo 3 > /proc/sys/vm/drop_caches
  mount -t squashfs -o ro,loop "$1" "$work/mnt" || return
  stat=/sys/block/$(basename "$(findmnt -no SOURCE "$work/mnt")")/stat
  before=$(awk '{ print $3 }' "$stat")
  (cd "$work/mnt" && /usr/bin/time -f '%e %S' -o "$work/time" xargs -0 cat < "$2" >/dev/null) || status=$?
  awk -v before="$before" -v times="$(tail -n 1 "$work/time")" '{ print times, ($3 - before) * 512 }' "$stat"
  umount "$work/mnt" && return $status
}

# median COLUMN of the runs.
median() { sort -n -k"$1,$1" "$work/runs" | awk -v c="$1" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'; }

row_failed() { # row_failed ORDER SET MESSAGE
  local message=${3:-no message}
  failed=1
  echo "| $2, $(tr -cd '\0' < "$work/$2" | wc -c) files | $1 | failed: ${message//|//} | | | | | | |"
}

row() { # row ORDER SET
  local image=$work/$1.squashfs count run wall='' system='' bytes=''
  if ! "$work/readcost" "$image" < "$work/$2" > "$work/count" 2>"$work/log"; then
    row_failed "$1" "$2" "$(head -n 1 "$work/log")"
    return
  fi
  read -ra count < "$work/count"
  if [ -n "$can_mount" ]; then
    : > "$work/runs"
    for ((run = 0; run < repeat; run++)); do
      if ! read_cold "$image" "$work/$2" >> "$work/runs" 2>"$work/log"; then
        row_failed "$1" "$2" "$(head -n 1 "$work/log")"
        return
      fi
    done
    wall=$(median 1) system=$(median 2) bytes=$(awk -v b="$(median 3)" 'BEGIN { printf "%.1f", b / 1048576 }')
  fi
  echo "| $2, $(tr -cd '\0' < "$work/$2" | wc -c) files | $1 | $wall | $system | $bytes |" \
    "${count[0]} | ${count[1]} | ${count[2]} | $(awk -v b="${count[3]}" 'BEGIN { printf "%.1f", b / 1048576 }') |"
}

can_mount=
if [ -z "$count_only" ] && [ -w /proc/sys/vm/drop_caches ] && grep -q squashfs /proc/filesystems; then can_mount=1; fi

echo "$(machine); load before: $(cut -d ' ' -f 1 /proc/loadavg); $compression."
echo
echo "    $command_line"
for input in "${inputs[@]}"; do
  use "$input"
  echo; echo "### $name"; echo
  all > "$work/all"
  [ -s "$work/all" ] || die "$name: no regular file"
  top > "$work/top"; small > "$work/small"; python > "$work/python"
  built=()
  for order in "${orders[@]}"; do
    if build "$order"; then
      built+=("$order")
      echo "- $order: $(stat -c %s "$work/$order.squashfs") bytes"
    else
      failed=1
      echo "- $order: failed: $(grep -a -m 1 -v '^$' "$work/log" || echo "no message")"
    fi
  done
  echo
  echo "| read | order | wall s | system s | MiB read | blocks expanded | fragment blocks expanded | different ones | MiB of blocks |"
  echo "|---|---|--:|--:|--:|--:|--:|--:|--:|"
  for set in all top small python; do
    [ -s "$work/$set" ] || continue
    for order in "${built[@]}"; do row "$order" "$set"; done
  done
  rm -rf "$work/tree" "$work"/*.squashfs
done
[ -z "$failed" ] || exit 1
