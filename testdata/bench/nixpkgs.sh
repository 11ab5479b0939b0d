# shellcheck shell=bash disable=SC2154 # the variables named below are of the script that sources this
# Sourced, with lib.sh, by what makes an ISO of a closure as nixpkgs does: lib/make-squashfs.nix,
# modules/installer/cd-dvd/iso-image.nix, lib/make-iso9660-image.sh, without artwork, rEFInd, Memtest86+
# and what of syslinux is not a BIOS module. The menus wait a second, not ten.
#
# It takes: closure (a directory), compression (as isopress names it), isopress, mksquashfs, jobs,
# work (an empty directory), and a function step, which runs its arguments.

isolinux=/usr/lib/ISOLINUX modules=/usr/lib/syslinux/modules/bios grub=/usr/lib/grub/x86_64-efi

need_nixpkgs() {
  need "$mksquashfs" "Debian: apt install squashfs-tools"
  need $isolinux/isolinux.bin "Debian: apt install isolinux"
  need $modules/vesamenu.c32 "Debian: apt install syslinux-common"
  need grub-mkimage "Debian: apt install grub-common"
  need /usr/share/grub/unicode.pf2 "Debian: apt install grub-common"
  need $grub/iso9660.mod "Debian: apt install grub-efi-amd64-bin"
  need mcopy "Debian: apt install mtools"
  need mkfs.vfat "Debian: apt install dosfstools"
  need xorriso "Debian: apt install xorriso"
}

# read_closure sets what is pressed. A top level without an initrd gets isopress's own.
read_closure() {
  mapfile -t paths < "$closure/store-paths"
  system=$(readlink -f "$closure/result")
  kernel=$(readlink -f "$system/kernel")
  if [ -e "$system/initrd" ]; then
    initrd=$(readlink -f "$system/initrd")
  else
    initrd=$work/initrd
    "$isopress" initrd --kernel-modules "$system/kernel-modules" -q -o "$initrd"
  fi
  params=$(cat "$system/kernel-params")
  volume_id=$(grep -o 'root=LABEL=[^ ]*' <<< "$params" | tail -n 1 | cut -d = -f 3 || true)
  volume_id=${volume_id:-ISOPRESS}
  cmdline="init=$system/init $params"
  cp "$closure/registration" "$work/nix-path-registration"
  # Their names in nixpkgs' ISO.
  boot_kernel=boot$kernel boot_initrd=boot$initrd
  [ -e "$system/initrd" ] || boot_initrd=boot/initrd
}

# nixpkgs ISO, behind read_closure
nixpkgs() {
  local iso=$1
  mkdir -p "$work/cd" "$work/efi"
  # shellcheck disable=SC2046 # flags are words
  (cd "$work" && step "$mksquashfs" nix-path-registration "${paths[@]}" nix-store.squashfs -no-hardlinks \
    -keep-as-directory -all-root -b 1048576 $(mksquashfs_codec "$compression") -processors "$jobs" -no-progress -quiet)
  isolinux_dir
  efi_dir
  efi_image
  path_list > "$work/path-list"
  (cd "$work" && SOURCE_DATE_EPOCH=315532800 step xorriso \
    -boot_image any gpt_disk_guid=daed2280b91e42c0aed682c825ca41f3 -volume_date all_file_dates =315532800 \
    -as mkisofs -iso-level 3 -volid "$volume_id" -appid nixos -publisher nixos -graft-points \
    -full-iso9660-filenames -joliet \
    -eltorito-boot isolinux/isolinux.bin -eltorito-catalog .boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    --sort-weight 1 /isolinux -isohybrid-mbr $isolinux/isohdpfx.bin \
    -eltorito-alt-boot -e boot/efi.img -no-emul-boot -isohybrid-gpt-basdat \
    -r -path-list path-list --sort-weight 0 / -output "$iso")
  rm "$work/nix-store.squashfs"
}

isolinux_dir() {
  mkdir "$work/cd/isolinux"
  cp $modules/*.c32 $isolinux/isolinux.bin "$work/cd/isolinux"
  cat > "$work/cd/isolinux/isolinux.cfg" <<END
SERIAL 0 115200
TIMEOUT 10
UI vesamenu.c32
DEFAULT boot
LABEL boot
LINUX /$boot_kernel
APPEND $cmdline
INITRD /$boot_initrd
END
}

efi_dir() {
  local dir=$work/efi/EFI names=(fat iso9660 part_gpt part_msdos normal boot linux configfile loopback chain halt
    efifwsetup efi_gop ls search search_label search_fs_uuid search_fs_file echo serial gfxmenu gfxterm
    gfxterm_background gfxterm_menu test loadenv all_video videoinfo png efi_uga)
  mkdir -p "$dir/BOOT"
  touch "$dir/nixos-installer-image"
  step grub-mkimage --directory=$grub -o "$dir/BOOT/BOOTX64.EFI" -p /EFI/BOOT -O x86_64-efi "${names[@]}"
  cp /usr/share/grub/unicode.pf2 "$dir/BOOT"
  cat > "$dir/BOOT/grub.cfg" <<END
set timeout=1
search --set=root --file /EFI/nixos-installer-image
insmod gfxterm
insmod png
set gfxpayload=keep
terminal_output console
terminal_input console
menuentry 'NixOS' --class installer {
  linux /$boot_kernel $cmdline
  initrd /$boot_initrd
}
END
}

# efi_image: GRUB and its configuration, a tenth more than that, in whole MiB and at least one more.
efi_image() {
  local files=$work/esp usage size
  mkdir -p "$files/EFI/BOOT"
  cp "$work/efi/EFI/BOOT"/{grub.cfg,BOOTX64.EFI} "$files/EFI/BOOT"
  usage=$(du -s --block-size=1M --apparent-size "$files" | cut -f 1)
  size=$((usage * 110 * 1048576 / 100 / 1048576 + 1))
  truncate -s "${size}M" "$work/cd/efi.img"
  step mkfs.vfat --invariant -i 12345678 -n EFIBOOT "$work/cd/efi.img"
  step mcopy -psm -i "$work/cd/efi.img" "$files/EFI" ::/
}

path_list() {
  echo 26.05 > "$work/cd/version.txt"
  echo 'source /EFI/BOOT/grub.cfg' > "$work/cd/loopback.cfg"
  cat <<END
nix-store.squashfs=nix-store.squashfs
version.txt=cd/version.txt
boot/efi.img=cd/efi.img
boot/grub/loopback.cfg=cd/loopback.cfg
EFI=efi/EFI
isolinux=cd/isolinux
$boot_kernel=$kernel
$boot_initrd=$initrd
END
}
