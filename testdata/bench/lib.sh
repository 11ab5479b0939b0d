# shellcheck shell=bash disable=SC2154 # work is the directory of the script that sources this
# Sourced by the scripts beside it: what several of them need.

die() { echo "${0##*/}: $*" >&2; exit 1; }

# usage prints the script's head comment.
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# need PROGRAM-OR-FILE PACKAGES
need() { command -v "$1" >/dev/null || [ -e "$1" ] || die "$1: not found ($2)"; }

# machine says what is measured on.
machine() { echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors; Linux $(uname -r)"; }

# field NAME JSON prints the value of what isopress --json has on a line of its own.
field() { sed -n "s/^ *\"$1\": *\"\{0,1\}\(.*\)/\1/p" <<< "$2" | sed 's/"\{0,1\},\{0,1\}$//; s/\\"/"/g'; }

# mksquashfs_codec CODEC gives mksquashfs's options for what isopress calls CODEC.
mksquashfs_codec() {
  case $1 in
    zstd) mksquashfs_codec zstd:19 ;;
    gzip) mksquashfs_codec gzip:9 ;;
    zstd:* | gzip:*) echo "-comp ${1%%:*} -Xcompression-level ${1#*:}" ;;
    xz | xz:[6-9]) echo "-comp xz -Xbcj x86" ;; # these levels differ by the dictionary, which is a block
    lz4) echo "-comp lz4" ;;
    lz4:hc | lz4:hc:12) echo "-comp lz4 -Xhc" ;;
    *) echo "-comp $1" ;; # which mksquashfs refuses, unless it knows better
  esac
}

# version_of TOOL PROGRAM
version_of() {
  case $1 in
    mksquashfs) "$2" -version 2>/dev/null | sed -n '1s/^mksquashfs version \([0-9.]*\).*/\1/p' ;;
    gensquashfs) "$2" --version | sed -n '1s/.*) //p' ;;
    isopress) "$2" version | sed -n '1s/^isopress \([^ ]*\).*/\1/p' ;;
  esac
}

# copy_of DIR... sets tree to $work/tree, and puts the directories side by side into it, by the names that
# they are given with: a DIR may be a link.
copy_of() {
  local dir
  tree=$work/tree; mkdir "$tree"
  for dir; do
    dir=$(realpath -s "$dir")
    [ -d "$dir" ] || die "$dir: not a directory"
    [ ! -e "$tree/${dir##*/}" ] || die "$dir: there is another of that name"
    cp -a -H --reflink=auto "$dir" "$tree/"
  done
}
