# shellcheck shell=bash disable=SC2154,SC2034 # work, isopress, closure, jobs are of the script that sources this
# Sourced: a function an image, image_NAME OUT.iso, each with the commands by which its project makes
# its own: names, options and places are theirs. What is in it is small: the demonstration's kernel,
# an initrd with guest-init, and a squashfs in xz of a few MB. The functions run in an empty directory, with
# $guest made by make_guest.
#
# ways[NAME] are the ways in which it boots, FIRMWARE:ATTACH as isopress boot names them.

declare -A ways expects
# Those that a quick run tries.
declare -A quick_ways=([live]="bios:cdrom uefi:usb" [nixpkgs]="bios:usb uefi:cdrom" [arch]="bios:cdrom uefi:usb" [own]="bios:usb uefi:cdrom")
foreign_ok='FOREIGN-OK|FOREIGN-FAILED' # behind a menu's last words, perhaps
every_way='bios:cdrom bios:usb uefi:cdrom uefi:usb'

# make_guest leaves kernel, initrd and tree/ in $guest.
make_guest() {
  local system
  system=$(readlink "$closure/result")
  mkdir -p "$guest/tree"
  cp "$system/kernel" "$guest/kernel"
  chmod u+w "$guest/kernel"
  "$isopress" initrd --kernel-modules "$system/kernel-modules" --init none --add "$here/guest-init:/init" \
    --add /bin/busybox:/bin/busybox -q -o "$guest/initrd"
  cp -r "$system/kernel-modules/lib" /bin/busybox "$guest/tree/"
  ln "$guest/tree/busybox" "$guest/tree/hard-link"
  ln -s busybox "$guest/tree/symbolic-link"
  mkdir "$guest/tree/empty"
  truncate -s 3M "$guest/tree/sparse"
  (cd "$guest/tree" && find . -type f | sort | xargs sha256sum > "$guest/sums" && mv "$guest/sums" .)
  find "$guest" -exec touch -hd @1700000000 {} +
}

# squash FILE [OPTIONS]: the tree, as distributions do it.
squash() { quietly mksquashfs "$guest/tree" "$1" -noappend -no-progress -comp xz -processors "$jobs" "${@:2}"; }

# params VOLUMEID SQUASHFS...
params() {
  printf 'console=tty0 console=ttyS0 loglevel=4 medium=%s' "$1"
  printf ' squashfs=%s' "${@:2}"
}

# isolinux_menu CONFIGURATION KERNEL INITRD PARAMETERS puts it and syslinux's modules side by side.
isolinux_menu() {
  local dir
  dir=$(dirname "$1")
  cp /usr/lib/syslinux/modules/bios/{ldlinux,libcom32,libutil,libmenu,vesamenu,mboot}.c32 /usr/lib/ISOLINUX/isolinux.bin "$dir"
  printf '%s\n' 'SERIAL 0 115200' 'TIMEOUT 10' 'UI vesamenu.c32' 'DEFAULT boot' 'LABEL boot' \
    "LINUX $2" "INITRD $3" "APPEND $4" > "$1"
}

# grub_menu FILE KERNEL INITRD PARAMETERS
grub_menu() {
  printf '%s\n' 'serial --unit=0 --speed=115200' 'terminal_input serial console' 'terminal_output serial console' \
    'set timeout=1' "menuentry 'Live' {" "  linux $2 $4" "  initrd $3" '}' > "$1"
}

# grub_esp FILE MARKER CONFIGURATION: a FAT of GRUB, which finds MARKER on the ISO and goes on there.
grub_esp() {
  printf '%s\n' "search --set=root --file $2" "set prefix=(\$root)$(dirname "$3")" "configfile (\$root)$3" > early.cfg
  grub-mkimage -O x86_64-efi -o bootx64.efi -p /boot/grub -c early.cfg \
    fat iso9660 part_gpt part_msdos normal linux configfile search search_fs_file search_label serial echo test
  fat_image "$1" 2M
  mmd -i "$1" ::/EFI ::/EFI/BOOT
  mcopy -m -i "$1" bootx64.efi ::/EFI/BOOT/BOOTX64.EFI
  rm early.cfg
}

# fat_image FILE SIZE
fat_image() {
  rm -f "$1"
  truncate -s "$2" "$1"
  quietly mkfs.vfat --invariant -n ESP "$1"
}

# --- live-build's lb_binary_iso, lb_binary_syslinux, lb_binary_checksums: kernel and initrd by two names

ways[live]=$every_way expects[live]=$foreign_ok
image_live() {
  local append
  append="boot=live components $(params FOREIGN-LIVE-SMALL /live/filesystem.squashfs)"
  mkdir -p binary/{live,isolinux,boot/grub,.disk}
  echo 'Debian GNU/Linux 12 "Bookworm" - foreign' > binary/.disk/info
  cp "$guest/kernel" binary/live/vmlinuz-6.1.0-amd64
  cp "$guest/initrd" binary/live/initrd.img-6.1.0-amd64
  ln binary/live/vmlinuz-6.1.0-amd64 binary/live/vmlinuz
  ln binary/live/initrd.img-6.1.0-amd64 binary/live/initrd.img
  squash binary/live/filesystem.squashfs
  isolinux_menu binary/isolinux/isolinux.cfg /live/vmlinuz /live/initrd.img "$append"
  grub_menu binary/boot/grub/grub.cfg /live/vmlinuz-6.1.0-amd64 /live/initrd.img-6.1.0-amd64 "$append findiso=\${iso_path}"
  grub_esp binary/boot/grub/efi.img /.disk/info /boot/grub/grub.cfg
  for sum in md5 sha256; do
    (cd binary && find . -type f \! -path './isolinux/isolinux.bin' \! -path './*sum.txt' \! -path './*sum.README' -print0 |
      sort -z | xargs -0 ${sum}sum > ${sum}sum.txt)
    echo "The file ${sum}sum.txt contains the $sum checksums of all files on this medium." > binary/${sum}sum.README
  done
  quietly xorriso -as mkisofs -R -r -J -joliet-long -l -cache-inodes -iso-level 3 \
    -isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin -partition_offset 16 -A 'Debian Live' -p 'live-build 20230502' \
    -publisher 'Debian Live project' -V FOREIGN-LIVE-SMALL --modification-date=2023111422132000 \
    -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    -eltorito-alt-boot -e boot/grub/efi.img -no-emul-boot -isohybrid-gpt-basdat -isohybrid-apm-hfsplus -o "$1" binary
}

# --- nixpkgs, of the demonstration's closure

ways[nixpkgs]=$every_way expects[nixpkgs]='^ISOPRESS-DEMO: '
image_nixpkgs() {
  local work=$PWD compression=xz mksquashfs=mksquashfs
  step() { quietly "$@"; }
  read_closure
  nixpkgs "$1"
}

# --- archiso's mkarchiso: the system partition behind the ISO, with systemd-boot, kernel and initrd in it

ways[arch]=$every_way expects[arch]=$foreign_ok
image_arch() {
  local label=ARCH_202311 options
  options="archisobasedir=arch $(params $label /arch/x86_64/airootfs.sfs)"
  mkdir -p iso/arch/{boot/x86_64,x86_64} iso/boot/syslinux iso/EFI/BOOT iso/loader/entries
  squash iso/arch/x86_64/airootfs.sfs -b 1M -Xbcj x86 -Xdict-size 1M
  (cd iso/arch/x86_64 && sha512sum airootfs.sfs > airootfs.sha512)
  cp "$guest/kernel" iso/arch/boot/x86_64/vmlinuz-linux
  cp "$guest/initrd" iso/arch/boot/x86_64/initramfs-linux.img
  isolinux_menu iso/boot/syslinux/isolinux.cfg /arch/boot/x86_64/vmlinuz-linux /arch/boot/x86_64/initramfs-linux.img "$options"
  cp /usr/lib/systemd/boot/efi/systemd-bootx64.efi iso/EFI/BOOT/BOOTX64.EFI
  printf 'timeout 1\ndefault arch.conf\n' > iso/loader/loader.conf
  printf '%s\n' 'title Arch' 'linux /arch/boot/x86_64/vmlinuz-linux' 'initrd /arch/boot/x86_64/initramfs-linux.img' \
    "options $options" > iso/loader/entries/arch.conf
  fat_image efiboot.img 16M
  mcopy -m -s -i efiboot.img iso/EFI iso/loader ::/
  mmd -i efiboot.img ::/arch ::/arch/boot
  mcopy -m -s -i efiboot.img iso/arch/boot/x86_64 ::/arch/boot/
  quietly xorriso -no_rc -as mkisofs -iso-level 3 -full-iso9660-filenames -joliet -joliet-long -rational-rock \
    -volid $label -appid 'Arch Linux Live/Rescue DVD' -publisher 'Arch Linux' -preparer 'prepared by mkarchiso' \
    -eltorito-boot boot/syslinux/isolinux.bin -eltorito-catalog boot/syslinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table -isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin \
    --modification-date=2023111422132000 -partition_offset 16 \
    -append_partition 2 C12A7328-F81F-11D2-BA4B-00A0C93EC93B efiboot.img -appended_part_as_gpt \
    -eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot -isohybrid-gpt-basdat -output "$1" iso/
}

# --- Fedora's lorax: GRUB for both, the system partition behind the ISO, and an implanted checksum

ways[fedora]=$every_way expects[fedora]=$foreign_ok
image_fedora() {
  local options marker=/.discinfo grub=/usr/lib/grub/i386-pc
  options="rd.live.check $(params Fedora-WS-Live-39 /LiveOS/squashfs.img)"
  mkdir -p iso/{LiveOS,images,boot/grub2,EFI/BOOT}
  date -ud @1700000000 +%s > iso$marker
  squash iso/LiveOS/squashfs.img
  cp "$guest/kernel" iso/images/vmlinuz
  cp "$guest/initrd" iso/images/initrd.img
  grub_menu iso/boot/grub2/grub.cfg /images/vmlinuz /images/initrd.img "$options"
  printf '%s\n' "search --set=root --file $marker" "configfile (\$root)/boot/grub2/grub.cfg" > early.cfg
  grub-mkimage -O i386-pc-eltorito -o iso/images/eltorito.img -p /boot/grub2 -c early.cfg \
    biosdisk iso9660 part_gpt part_msdos normal linux configfile search search_fs_file serial echo test
  grub_esp efiboot.img $marker /boot/grub2/grub.cfg
  quietly xorriso -as mkisofs -o "$1" -R -J -V Fedora-WS-Live-39 --grub2-mbr $grub/boot_hybrid.img -partition_offset 16 \
    -appended_part_as_gpt -append_partition 2 C12A7328-F81F-11D2-BA4B-00A0C93EC93B efiboot.img \
    -iso_mbr_part_type EBD0A0A2-B9E5-4433-87C0-68B6B72699C7 -c boot.cat --boot-catalog-hide -b images/eltorito.img \
    -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info \
    -eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot iso
  quietly implantisomd5 "$1"
}

# --- the same with a system partition in the MBR alone, as Debian's installer since 12 has it

ways[mbr-esp]=$every_way expects[mbr-esp]=$foreign_ok
image_mbr-esp() {
  local options
  options=$(params MBR_ESP /casper/filesystem.squashfs)
  mkdir -p iso/{casper,isolinux,boot/grub,.disk}
  echo MBR_ESP > iso/.disk/info
  squash iso/casper/filesystem.squashfs -b 256K
  cp "$guest/kernel" iso/casper/vmlinuz
  cp "$guest/initrd" iso/casper/initrd
  isolinux_menu iso/isolinux/isolinux.cfg /casper/vmlinuz /casper/initrd "$options"
  grub_menu iso/boot/grub/grub.cfg /casper/vmlinuz /casper/initrd "$options"
  grub_esp efi.img /.disk/info /boot/grub/grub.cfg
  (cd iso && find . -type f ! -path './isolinux/*' ! -name md5sum.txt -print0 | sort -z | xargs -0 md5sum > md5sum.txt)
  quietly xorriso -as mkisofs -r -V MBR_ESP -o "$1" -J -joliet-long -cache-inodes \
    -isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -boot-load-size 4 -boot-info-table -no-emul-boot -append_partition 2 0xef efi.img \
    -eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot iso
}

# --- Alpine's mkimage: the modules in a squashfs, and a second one

ways[alpine]=$every_way expects[alpine]=$foreign_ok
image_alpine() {
  local options
  options="modules=loop,squashfs quiet $(params 'alpine-std' /boot/modloop-lts /boot/modloop-virt)"
  mkdir -p iso/boot/{syslinux,grub} iso/apks iso/efi/boot
  echo alpine > iso/.alpine-release
  squash iso/boot/modloop-lts -exit-on-error
  squash iso/boot/modloop-virt -b 64K
  cp "$guest/kernel" iso/boot/vmlinuz-lts
  cp "$guest/initrd" iso/boot/initramfs-lts
  isolinux_menu iso/boot/syslinux/syslinux.cfg /boot/vmlinuz-lts /boot/initramfs-lts "$options"
  grub_menu iso/boot/grub/grub.cfg /boot/vmlinuz-lts /boot/initramfs-lts "$options"
  grub_esp iso/boot/grub/efi.img /.alpine-release /boot/grub/grub.cfg
  mv bootx64.efi iso/efi/boot/
  cp /usr/lib/ISOLINUX/isohdpfx.bin iso/boot/syslinux/
  quietly xorrisofs -quiet -output "$1" -full-iso9660-filenames -joliet -rational-rock -sysid LINUX -volid alpine-std \
    -isohybrid-mbr iso/boot/syslinux/isohdpfx.bin -eltorito-boot boot/syslinux/isolinux.bin \
    -eltorito-catalog boot/syslinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    -eltorito-alt-boot -e boot/grub/efi.img -no-emul-boot -isohybrid-gpt-basdat -follow-links iso
}

# --- grub-mkrescue: GRUB for both, with Apple's partition map and an HFS+ over the same files

ways[mkrescue]=$every_way expects[mkrescue]=$foreign_ok
image_mkrescue() {
  mkdir -p iso/boot/grub
  squash iso/rootfs.squashfs
  cp "$guest/kernel" "$guest/initrd" iso/boot/
  grub_menu iso/boot/grub/grub.cfg /boot/kernel /boot/initrd "$(params MKRESCUE /rootfs.squashfs)"
  quietly grub-mkrescue -o "$1" iso -- -volid MKRESCUE
}

# --- isopress

own() { # own OUT OPTIONS
  "$isopress" build --closure "$closure/store-paths" --registration "$closure/registration" \
    --system "$(readlink "$closure/result")" --compression xz --cache off -q -o "$@"
}
for kind in own own-grub own-fat32 own-joliet; do ways[$kind]=$every_way expects[$kind]='^ISOPRESS-DEMO: '; done
image_own() { own "$1"; }
image_own-grub() { own "$1" --boot-loader grub; }
image_own-fat32() { own "$1" --fat32; }
image_own-joliet() { own "$1" --joliet; }

# --- live-build itself, which takes minutes

ways[debian-live]=$every_way expects[debian-live]=$foreign_ok
image_debian-live() { bash "$here/debian-live.sh" "$1"; }
