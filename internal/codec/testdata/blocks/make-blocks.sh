#!/bin/sh
# Makes the blocks that the decoders' tests and fuzz targets start from: the
# first 20,000 bytes of "seq 1 5000", as mksquashfs 4.5.1 compresses them. A file
# is named by its algorithm and, after a dash, a variant. The blocks are
# committed: other versions of the compressors may give other bytes.
set -eu
out=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/in"
seq 1 5000 | head -c 20000 >"$tmp/in/file"

number() { od -An -t "u$2" -j "$1" -N "$2" "$tmp/image" | tr -d ' '; }

# The one block lies between the compressor's options, if any, and the inodes.
block() {
	name=$1
	shift
	rm -f "$tmp/image"
	mksquashfs "$tmp/in" "$tmp/image" -quiet -no-progress -noappend -nopad -no-fragments -b 32K "$@"
	start=96
	if [ $(($(number 24 2) & 1024)) != 0 ]; then
		start=$((start + 2 + ($(number 96 2) & 32767)))
	fi
	head -c "$(number 64 8)" "$tmp/image" | tail -c +$((start + 1)) >"$out/$name.block"
}
block gzip -comp gzip
block zstd -comp zstd
block xz -comp xz
block xz-dict -comp xz -Xdict-size 8K
block lz4 -comp lz4
block lz4-hc -comp lz4 -Xhc
block lzo -comp lzo
block lzo-1 -comp lzo -Xalgorithm lzo1x_1
block lzma -comp lzma

# Filters that change next to nothing in a text, so that mksquashfs does not
# choose them; by xz 5.4.1.
filtered() {
	name=$1
	shift
	xz --stdout --threads=1 --check=crc32 "$@" --lzma2=dict=32KiB "$tmp/in/file" >"$out/$name.block"
}
filtered xz-x86 --x86
filtered xz-arm64 --arm64
filtered xz-two --arm64 --delta=dist=4

# riscv.xz and riscv-start.xz (start=4096) are not made here: they are what
# riscvCode in decode_test.go returns, gone through lzma_bcj_riscv_encode of
# liblzma 5.8.3, LZMA2 and a header and check put together by hand.
