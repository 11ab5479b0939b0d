#!/bin/bash
# Make a Debian Live image with live-build: isolinux for BIOS, GRUB for UEFI, live-boot, and a
# squashfs in xz. Nothing of its layout is ours; its menus are told not to wait, and the system says
# on the serial console which of its files have their SHA-256.
#
#   testdata/foreign/debian-live.sh OUT.iso
#
# Needs root and apt's mirrors. Installs what it lacks. TMPDIR is where it is made, in 2 GB: a
# tmpfs, mounted with dev and suid, saves dpkg's waiting for the disk.
set -euo pipefail
out=$(realpath -m "${1:?usage: debian-live.sh OUT.iso}")
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"
here=$PWD/testdata/foreign
install lb=live-build debootstrap=debootstrap wget=wget /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring

work=$(mktemp -d -t isopress-live-build.XXXXXX)
cleanup() {
  local dir
  for dir in dev/pts dev proc sys; do ! mountpoint -q "$work/chroot/$dir" || umount -l "$work/chroot/$dir"; done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
cd "$work"

# /etc/os-release's release, from Debian's mirrors. live-build 20230502 does not get through without
# --build-with-chroot, so it installs its own tools in the image's system, which does not keep them.
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
lb config --mode debian --distribution "$release" --architecture amd64 --archive-areas main \
  --mirror-bootstrap http://deb.debian.org/debian/ --mirror-binary http://deb.debian.org/debian/ \
  --security false --updates false --apt-indices false --apt-recommends false --apt-source-archives false \
  --debootstrap-options '--variant=minbase --include=ca-certificates' --cache false \
  --linux-flavours amd64 --firmware-binary false --firmware-chroot false --memtest none --debian-installer none \
  --binary-image iso-hybrid --bootloaders 'syslinux,grub-efi' --uefi-secure-boot disable \
  --chroot-squashfs-compression-type xz --checksums 'md5 sha256' --iso-volume FOREIGN-LIVE \
  --bootappend-live 'boot=live components console=tty0 console=ttyS0 init=/usr/local/sbin/foreign-ok' >config.log 2>&1 || { cat config.log >&2; exit 1; }
cp -r "$here/debian-live/." config/
find config -name '*.chroot' -exec chmod +x {} +

lb build >build.log 2>&1 || { tail -n 40 build.log >&2; exit 1; }
mv live-image-amd64.hybrid.iso "$out"
