#!/bin/sh
# Makes the small images that the reader's example and fuzz targets start from,
# with mksquashfs 4.5.1 and setfattr. The images are committed: another version
# of mksquashfs may give other bytes.
set -eu
out=$(cd "$(dirname "$0")" && pwd)
src=$(mktemp -d)
trap 'rm -rf "$src"' EXIT
cd "$src"

mkdir -p etc/empty bin
echo isopress >etc/hostname
ln -s hostname etc/name
ln -s /etc/hostname bin/absolute
seq 1 1400 >bin/numbers
ln bin/numbers bin/hard
head -c 30000 /dev/zero >bin/zeros
printf '' >bin/nothing
setfattr -n user.note -v 'a value that is stored once and that three files refer to' bin/numbers bin/zeros bin/nothing
setfattr -n user.short -v x bin/zeros

press() {
	name=$1
	shift
	mksquashfs . "$out/$name.squashfs" -noappend -quiet -no-progress -nopad -all-root \
		-mkfs-time 1700000000 -all-time 1700000000 -processors 1 -b 4096 \
		-p 'console c 600 0 0 5 1' -p 'disk b 660 0 6 8 1' -p 'pipe i 644 0 0 f' "$@"
}
press gzip -comp gzip
press zstd -comp zstd
press xz -comp xz -Xbcj x86,arm -Xdict-size 8K -b 8K
press lz4 -comp lz4 -Xhc
press lzo -comp lzo -Xcompression-level 3
press lzma -comp lzma
press xattr-raw -comp gzip -noI -noX -no-exports -no-fragments

# A directory large enough for an index.
rm -rf "$src"/*
seq -f 'file-with-a-name-%g' 1 400 | xargs touch
mkdir directory
press index -comp zstd
