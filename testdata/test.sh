#!/bin/bash
# Sets the machine up and passes all tests: nothing may be skipped for want of a tool.
set -euo pipefail
. "$(dirname "$0")/setup.sh"
build
install qemu-system-x86_64=qemu-system-x86 /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf \
  mksquashfs=squashfs-tools gensquashfs=squashfs-tools-ng setfattr=attr setcap=libcap2-bin \
  xorriso=xorriso isoinfo=genisoimage 7zz=7zip sgdisk=gdisk fsck.fat=dosfstools mcopy=mtools nasm=nasm sbsign=sbsigntool openssl=openssl \
  grub-mkimage=grub-common /usr/lib/grub/i386-pc/boot_hybrid.img=grub-pc-bin /usr/lib/grub/x86_64-efi/kernel.img=grub-efi-amd64-bin \
  /usr/lib/systemd/boot/efi/linuxx64.efi.stub=systemd-boot-efi \
  /usr/lib/ISOLINUX/isolinux.bin=isolinux isohybrid=syslinux-utils implantisomd5=isomd5sum bsdtar=libarchive-tools \
  cpio=cpio zstd=zstd xz=xz-utils gzip=gzip depmod=kmod nix-store=nix-bin busybox=busybox-static time=time \
  /usr/lib/x86_64-linux-gnu/libdeflate.so.0=libdeflate0 /usr/lib/x86_64-linux-gnu/liblz4.so.1=liblz4-1 \
  /usr/lib/x86_64-linux-gnu/liblzma.so.5=liblzma5
closure

export ISOPRESS_REQUIRE_TOOLS=1 ISOPRESS_TEST_CLOSURE=$PWD/bin/closure
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "gofmt would change: $unformatted" >&2; exit 1; }
tools=(./testdata/bench/... ./testdata/foreign/...) # which ./... leaves out
go vet ./... "${tools[@]}"
CGO_ENABLED=0 go vet ./...
GOOS=darwin CGO_ENABLED=0 go vet ./squashfs ./initrd ./iso
go test -race -short -timeout 20m ./squashfs ./initrd ./iso ./internal/...
go test -timeout 80m "$@" ./... "${tools[@]}"
testdata/foreign/repack.sh --quick --codec zstd
