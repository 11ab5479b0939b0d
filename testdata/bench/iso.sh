#!/bin/bash
# Make a bootable ISO of a closure as nixpkgs' iso-image.nix does (mksquashfs, isolinux, GRUB for EFI,
# xorriso) and with isopress, of the same files with the same compression, and print a table in
# Markdown of what is in it, the time and the memory.
#
#   testdata/bench/iso.sh [OPTIONS]
#
#   --closure DIR        store-paths, registration and result (default: bin/closure, of testdata/make-closure)
#   --compression CODEC  as isopress takes it (default: zstd:19); blocks are of 1 MiB
#   --boot               boot both from a CD under BIOS and UEFI as well
#   --expect REGEXP      the line that ends a boot (default: the demonstration's; else 'login: $')
#   --keep DIR           where the ISOs are left; they are removed otherwise
#
# Kernel and initrd are files of the closure, and in nixpkgs' ISO files beside the squashfs too; a top
# level without an initrd gets isopress's own in both, packed before. Of nixpkgs' ISO the artwork, rEFInd, Memtest86+
# and all of syslinux that is not a BIOS module are left out. The menus wait a second, not ten.
#
# The payload is the squashfs, and of kernel and initrd what is no file of the closure; the overhead is the
# rest of the ISO. The time of nixpkgs' way is the sum of its steps, the memory that of the largest.
#
# Environment: MKSQUASHFS and ISOPRESS name the programs (default: on PATH, bin/isopress), BUILD_FLAGS are
# for isopress build, JOBS are the processors (2), TMPDIR is where all is made. Nothing is installed:
# Debian has isolinux and syslinux-common, grub-common and grub-efi-amd64-bin, mtools, dosfstools,
# xorriso, squashfs-tools, time; for --boot qemu-system-x86 and ovmf.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
mksquashfs=${MKSQUASHFS:-mksquashfs}
jobs=${JOBS:-2}
read -ra build_flags <<< "${BUILD_FLAGS:-}"

closure=$here/../../bin/closure compression=zstd:19 boot='' expect='^ISOPRESS-DEMO: [0-9]+ store paths|login: $' keep=''
command_line="testdata/bench/iso.sh${*:+$(printf ' %q' "$@")}"
while [ $# -gt 0 ]; do
  option=$1; shift
  case $option in
    --boot) boot=1; continue ;;
  esac
  [ $# -gt 0 ] || usage
  case $option in
    --closure) closure=$1 ;;
    --compression) compression=$1 ;;
    --expect) expect=$1 ;;
    --keep) keep=$1 ;;
    *) usage ;;
  esac
  shift
done
for f in store-paths registration result; do [ -e "$closure/$f" ] || die "$closure/$f: not found"; done
[ -z "$keep" ] || mkdir -p "$keep"

isolinux=/usr/lib/ISOLINUX modules=/usr/lib/syslinux/modules/bios grub=/usr/lib/grub/x86_64-efi
need "$isopress" "go build -o bin/ ./cmd/..."
need "$mksquashfs" "Debian: apt install squashfs-tools"
need $isolinux/isolinux.bin "Debian: apt install isolinux"
need $modules/vesamenu.c32 "Debian: apt install syslinux-common"
need grub-mkimage "Debian: apt install grub-common"
need /usr/share/grub/unicode.pf2 "Debian: apt install grub-common"
need $grub/iso9660.mod "Debian: apt install grub-efi-amd64-bin"
need mcopy "Debian: apt install mtools"
need mkfs.vfat "Debian: apt install dosfstools"
need xorriso "Debian: apt install xorriso"
need /usr/bin/time "Debian: apt install time"
[ -z "$boot" ] || need qemu-system-x86_64 "Debian: apt install qemu-system-x86 ovmf"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# --- What is pressed

mapfile -t paths < "$closure/store-paths"
system=$(readlink -f "$closure/result")
kernel=$(readlink -f "$system/kernel")
if [ -e "$system/initrd" ]; then
  initrd=$(readlink -f "$system/initrd")
else
  initrd=$work/initrd build_flags+=(--initrd "$work/initrd")
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

# in_closure FILE: it lies in one of the store paths.
in_closure() { grep -qxF "$(cut -d / -f 1-4 <<< "$1")" "$closure/store-paths"; }

# step COMMAND... runs a part of a build, and notes "seconds KiB".
step() { /usr/bin/time -q -a -o "$work/time" -f '%e %M' "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "$1 failed"; }; }

# --- nixpkgs' way: lib/make-squashfs.nix, modules/installer/cd-dvd/iso-image.nix, lib/make-iso9660-image.sh

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

# --- isopress

pressed() {
  step "$isopress" build --closure "$closure/store-paths" --registration "$closure/registration" --system "$system" \
    --compression "$compression" --block-size 1M --cache off -j "$jobs" "${build_flags[@]}" -q -o "$1"
}

# --- The table

# extents ISO prints "squashfs|kernel|initrd start end" in bytes.
extents() {
  xorriso -report_about FAILURE -indev "$1" -find / -type f -exec report_lba -- 2>/dev/null | awk -F' , ' '
    !/^File data lba:/ { next }
    $5 ~ /nix-store\.squashfs/ { kind = "squashfs" }
    $5 ~ /\/(boot\/kernel|bzImage|vmlinuz[^\/]*).$/ { kind = "kernel" }
    $5 ~ /\/initrd.$/ { kind = "initrd" }
    kind { printf "%s %.0f %.0f\n", kind, $2 * 2048, $2 * 2048 + $4; kind = "" }'
}

# row NAME ISO
row() {
  local size extra=0
  size=$(stat -c %s "$2")
  in_closure "$kernel" || extra=$((extra + $(stat -c %s "$kernel")))
  in_closure "$initrd" || extra=$((extra + $(stat -c %s "$initrd")))
  extents "$2" > "$work/extents"
  awk 'NR == FNR { seconds += $1; if ($2 > peak) peak = $2; next }
    $1 == "squashfs" { n++; from[n] = $2; to[n] = $3; squashfs += $3 - $2; next }
    { start[++m] = $2; end[m] = $3; kinds[$1] }
    END {
      if (!squashfs || !("kernel" in kinds) || !("initrd" in kinds)) exit 1
      for (i = 1; i <= m; i++) {
        inside = 0
        for (j = 1; j <= n; j++) {
          a = start[i] > from[j] ? start[i] : from[j]; b = end[i] < to[j] ? end[i] : to[j]
          if (b > a) inside += b - a
        }
        beside += end[i] - start[i] - inside
      }
      printf "| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.1f | %.0f |\n", name, squashfs, beside,
        size - squashfs - beside, size, size - squashfs - extra, seconds, peak / 1024
    }' name="$1" size="$size" extra="$extra" "$work/time" "$work/extents" ||
    die "$1: the ISO has no squashfs, kernel or initrd where they should be: $(cat "$work/extents")"
}

# boots NAME ISO prints an item for each firmware.
boots() {
  local firmware json
  for firmware in bios uefi; do
    if json=$("$isopress" boot "$2" --firmware $firmware --attach cdrom --expect "$expect" --timeout 10m --json 2>"$work/console"); then
      echo "- $1, $firmware: $(printf %.1f "$(field seconds "$json")") s, $(field line "$json")" >> "$work/boots"
    else
      failed=1
      echo "- $1, $firmware: failed: $(field error "$json")" >> "$work/boots"
    fi
  done
}

# make NAME FUNCTION FILE
make() {
  local iso=${keep:-$work}/$3
  iso=$(realpath "$iso")
  rm -f "$work/time" "$iso"
  "$2" "$iso"
  row "$1" "$iso"
  [ -z "$boot" ] || boots "$1" "$iso"
  [ -n "$keep" ] || rm "$iso"
}

failed=''
: > "$work/boots"
find "${paths[@]}" -type f -exec cat {} + >/dev/null # nobody pays for the disk
echo "$(machine); load before: $(cut -d ' ' -f 1 /proc/loadavg); page cache filled."
echo
echo "    $command_line"
echo
echo "Kernel $(stat -c %s "$kernel"), initrd $(stat -c %s "$initrd") bytes$(in_closure "$initrd" || echo ", which is isopress's own"); $compression."
echo
echo "| | squashfs | kernel and initrd beside it | everything else | ISO | overhead | seconds | peak MiB |"
echo "|---|--:|--:|--:|--:|--:|--:|--:|"
make "nixpkgs' way, mksquashfs $(version_of mksquashfs "$mksquashfs")" nixpkgs nixpkgs.iso
make "isopress $(version_of isopress "$isopress")" pressed isopress.iso
[ ! -s "$work/boots" ] || { echo; cat "$work/boots"; }
[ -z "$failed" ]
