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
. "$here/nixpkgs.sh"
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

need "$isopress" "go build -o bin/ ./cmd/..."
need_nixpkgs
need /usr/bin/time "Debian: apt install time"
[ -z "$boot" ] || need qemu-system-x86_64 "Debian: apt install qemu-system-x86 ovmf"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# --- What is pressed

read_closure
[ -e "$system/initrd" ] || build_flags+=(--initrd "$initrd")

# in_closure FILE: it lies in one of the store paths.
in_closure() { grep -qxF "$(cut -d / -f 1-4 <<< "$1")" "$closure/store-paths"; }

# step COMMAND... runs a part of a build, and notes "seconds KiB".
step() { /usr/bin/time -q -a -o "$work/time" -f '%e %M' "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "$1 failed"; }; }

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
