# The modules that finding and mounting the medium needs, whatever it is, with all that those
# depend on: a few megabytes of the package's 400. Then depmod, since Debian's package has no modules.dep.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
set -e
want="
  loop squashfs overlay isofs udf vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 ext4
  cdrom sr_mod sd_mod sg ata_piix ata_generic ahci nvme
  virtio_pci virtio_blk virtio_scsi virtio_net virtio_console virtio-rng
  xhci-pci xhci-hcd ehci-pci ehci-hcd uhci-hcd ohci-pci usb-storage uas usbhid hid-generic
  autofs4 efivarfs dm-mod zstd_decompress lz4_decompress"

dpkg-deb --fsys-tarfile "$src" | tar -x --no-same-owner ./lib/modules
release=$(ls lib/modules)
depmod -b . "$release"

from=lib/modules/$release; to=$out/lib/modules/$release
mkdir -p "$to"
for m in $want; do
  pattern=$(printf %s "$m" | tr '_-' '..')
  grep -E "/$pattern\.ko(\.xz|\.zst|\.gz)?:" "$from/modules.dep" || true # built in, in some kernels
done | tr -d : | tr ' ' '\n' | sort -u > wanted
while read -r f; do install -D -m 644 "$from/$f" "$to/$f"; done < wanted
cp "$from"/modules.builtin "$from"/modules.builtin.modinfo "$from"/modules.order "$to"
depmod -b "$out" "$release"
