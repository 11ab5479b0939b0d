#!/bin/bash
# Press trees at the edges of what people have, and print a table in Markdown of the memory and time
# that took: many workers with blocks of 1 MiB, a million small files, one file of 20 GiB, 60,000 entries
# in a directory, 100,000 hard links; each with --memory 256M, the default, and 64M. The trees are made
# up as they are read (testdata/bench/bounds), so none is on disk; of the image, some GiB for the
# largest, samples are compared, unsquashfs counts its entries, and then it goes.
#
#   testdata/bench/bounds.sh [CASE[=COMPRESSION[,COMPRESSION...]]...]
#
# A row that fails says why and the rest goes on; the exit status is 1 then.
#
# CASE: blocks (64 workers), million, 20gib, 60000entries, 100000links; all of them by default.
#
# Environment: JOBS are the workers where the case does not say (2), MEMORY the bounds in MiB ("256 64"),
# TMPDIR is where the image goes, FLAGS is passed to the program ("-order directory").
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
jobs=${JOBS:-2}
read -ra bounds <<< "${MEMORY:-256 64}"
read -ra flags <<< "${FLAGS:-}"
failed=''

[ $# -gt 0 ] || set -- blocks=zstd:3,zstd:19,xz million 20gib=zstd:1,lz4 60000entries 100000links
command -v unsquashfs >/dev/null || die "unsquashfs: not found (Debian: apt install squashfs-tools)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
(cd "$here/bounds" && go build -o "$work/bounds" .) || die "go build failed"

entries() {
  case $1 in
    blocks) echo 192 ;;
    million) echo 1001000 ;;
    20gib) echo 1 ;;
    60000entries) echo 60000 ;;
    100000links) echo 100000 ;;
    *) die "$1: no case of that name" ;;
  esac
}

# press CASE COMPRESSION MIB prints one row.
press() {
  local workers=$jobs want got row message
  [ "$1" != blocks ] || workers=64
  want=$(entries "$1")
  if ! row=$("$work/bounds" -case "$1" -compression "$2" -memory "$3" -workers "$workers" -check \
      -o "$work/image" "${flags[@]}" 2>"$work/log"); then
    message=$(head -n 1 "$work/log")
  elif ! got=$(unsquashfs -lls "$work/image" 2>"$work/log" | grep -c '^[-d]'); then
    message="unsquashfs: $(head -n 1 "$work/log")"
  elif [ "$((got - 1))" != "$want" ]; then # the root is no entry
    message="unsquashfs lists $((got - 1)) entries where $want are expected"
  else
    message=''
  fi
  rm -f "$work/image"
  if [ -z "$message" ]; then echo "$row"; return; fi
  failed=1
  echo "| $1 | $2 | $workers | $3 | failed: ${message//|//} | | | | | |"
}

echo "$(machine); $(go env GOVERSION); load before: $(cut -d ' ' -f 1 /proc/loadavg)."
echo "Memory in MiB: the bound; what was in use after a collection; the Go runtime's; the process's."
echo
echo "| tree | compression | workers | bound | image bytes | wall s | CPU s | live | Go | process |"
echo "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
for arg in "$@"; do
  name=${arg%%=*}
  entries "$name" >/dev/null
  "$work/bounds" -case "$name" -walk
  [ "$name" != "$arg" ] || arg=$name=zstd:3
  IFS=, read -ra compressions <<< "${arg#*=}"
  for compression in "${compressions[@]}"; do
    for bound in "${bounds[@]}"; do press "$name" "$compression" "$bound"; done
  done
done
[ -z "$failed" ] || exit 1
