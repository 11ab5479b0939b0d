#!/bin/bash
# Make bootable images as other projects make theirs, give each to a tool that changes the compression of
# its squashfs, and judge the outcome: it boots in the same ways, and all else is as it was (judge/main.go).
# Prints a table in Markdown.
#
#   testdata/foreign/repack.sh [OPTIONS]
#
#   --repack COMMAND   the tool's words, in which IN and OUT stand for the images
#                      (default: bin/isopress repack IN -o OUT --compression zstd:3); "cp IN OUT" must pass
#   --codec CODEC      what each squashfs is compressed with afterwards, as unsquashfs -s names it (default: not looked at)
#   --only LIST        of the images (default: all), which images.sh makes
#   --quick            four small images, two boots each of the outcome: the ways in which it must boot are
#                      known, and not tried before
#   --keep DIR         keep the images there, and take those that are there; with how they boot, NAME.boots
#   --no-boot          compare only
#   --timeout TIME     for one boot (default: 8m); a way that should boot and does not is a failure
#
# Environment: ISOPRESS is the program (default: bin/isopress), CLOSURE a closure of testdata/make-closure
# (default: bin/closure), JOBS the processors (2), TMPDIR where all is made: 150 MB an image, 1.5 GB for debian-live.
# Installs what it lacks. The exit status is 1 if one image fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../setup.sh"
. "$here/../bench/lib.sh"
. "$here/../bench/nixpkgs.sh"
. "$here/images.sh"
export LC_ALL=C
isopress=$(realpath "${ISOPRESS:-bin/isopress}") closure=$(realpath "${CLOSURE:-bin/closure}") jobs=${JOBS:-2}
all=(live nixpkgs arch fedora mbr-esp alpine mkrescue own own-grub own-fat32 own-joliet debian-live)

repack="$isopress repack IN -o OUT --compression zstd:3" codec='' only='' quick='' keep='' boot=1 timeout=8m
command_line="testdata/foreign/repack.sh${*:+$(printf ' %q' "$@")}"
while [ $# -gt 0 ]; do
  option=$1; shift
  case $option in
    --quick) quick=1; continue ;;
    --no-boot) boot=''; continue ;;
  esac
  [ $# -gt 0 ] || usage
  case $option in
    --repack) repack=$1 ;;
    --codec) codec=$1 ;;
    --only) only=$1 ;;
    --keep) keep=$1 ;;
    --timeout) timeout=$1 ;;
    *) usage ;;
  esac
  shift
done
[ -z "$only" ] || IFS=, read -ra all <<< "$only"
if [ -n "$quick" ]; then
  [ -n "$only" ] || all=(live nixpkgs arch own)
  for name in "${all[@]}"; do ways[$name]=${quick_ways[$name]:-bios:cdrom uefi:usb}; done
fi
for name in "${all[@]}"; do declare -F "image_$name" >/dev/null || die "$name: no such image"; done
need "$isopress" "go build -o bin/ ./cmd/..."
need "$closure/result" "testdata/make-closure bin/closure"
install xorriso=xorriso mksquashfs=squashfs-tools sgdisk=gdisk fsck.fat=dosfstools mcopy=mtools implantisomd5=isomd5sum \
  /usr/lib/ISOLINUX/isolinux.bin=isolinux /usr/lib/syslinux/modules/bios/vesamenu.c32=syslinux-common grub-mkimage=grub-common \
  /usr/lib/grub/i386-pc/boot_hybrid.img=grub-pc-bin /usr/lib/grub/x86_64-efi/kernel.img=grub-efi-amd64-bin \
  /usr/lib/systemd/boot/efi/systemd-bootx64.efi=systemd-boot-efi /bin/busybox=busybox-static \
  qemu-system-x86_64=qemu-system-x86 /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf

work=$(mktemp -d -t isopress-foreign.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
[ -z "$keep" ] || { mkdir -p "$keep"; keep=$(realpath "$keep"); }
guest=$work/guest images=${keep:-$work}
go build -o "$work/judge" ./testdata/foreign/judge

# quietly COMMAND... prints what it says only when it fails.
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "$1 failed"; }; }

# make_image NAME leaves $images/NAME.iso.
make_image() {
  [ ! -e "$images/$1.iso" ] || return 0
  [ -e "$guest/tree" ] || make_guest
  local started=$SECONDS
  mkdir "$work/$1"
  rm -f "$images/$1.boots"
  (cd "$work/$1" && "image_$1" "$work/$1/out.iso")
  mv "$work/$1/out.iso" "$images/$1.iso"
  rm -rf "${work:?}/$1"
  made[$1]=$((SECONDS - started))
}

# boot_way IMAGE NAME FIRMWARE:ATTACH prints the seconds, or nothing.
boot_way() {
  local json log=$work/$2.${3/:/.}.log
  json=$("$isopress" boot "$1" --firmware "${3%:*}" --attach "${3#*:}" --memory 1G --expect "${expects[$2]}" \
    --timeout "$timeout" --json 2>"$log") || true
  case $(field line "$json") in
    '' | *FAILED*) tail -n 5 "$log" | tr -cd '[:print:]\n' | cut -c 1-200 | sed "s/^/  $2, $3: /" >&2 ;;
    *) printf %.0f "$(field seconds "$json")" ;;
  esac
}

# boots IMAGE NAME WAY... prints "WAY SECONDS" of those that boot; two at a time.
boots() {
  local image=$1 name=$2 way dir
  shift 2
  dir=$(mktemp -d -p "$work")
  for way; do
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
    boot_way "$image" "$name" "$way" > "$dir/${way/:/.}" &
  done
  wait
  for way; do [ ! -s "$dir/${way/:/.}" ] || echo "$way $(cat "$dir/${way/:/.}")"; done
  rm -r "$dir"
}

# boots_before NAME prints in which ways it boots, as far as that is known or asked for.
boots_before() {
  local known=$images/$1.boots
  if [ -z "$boot" ]; then return; fi
  if [ -n "$quick" ]; then tr ' ' '\n' <<< "${ways[$1]}" | sed 's/$/ -/'; return; fi
  # shellcheck disable=SC2086 # words
  [ -e "$known" ] || { boots "$images/$1.iso" "$1" ${ways[$1]} > "$known.new" && mv "$known.new" "$known"; }
  cat "$known"
}

# repacked NAME runs the tool, and gives its exit code.
repacked() {
  local words=() word
  for word in $repack; do
    case $word in
      IN) words+=("$images/$1.iso") ;;
      OUT) words+=("$work/$1.out.iso") ;;
      *) words+=("$word") ;;
    esac
  done
  "${words[@]}" >"$work/$1.repack.log" 2>&1
}

# judge_flags NAME: in our own images the loader holds the kernel's place, the manifest the squashfs's digest, from
# which GUIDs and the disk's signature are derived.
judge_flags() {
  [ -z "$codec" ] || echo "-codec $codec"
  case $1 in
    own*) echo '-may-differ /EFI/BOOT/BOOTX64.EFI -may-differ /isopress.json -may-differ boot-code -may-differ guids -may-differ esp' ;;
  esac
}

# list BOOTS: "bios: cdrom 12, usb 14; uefi: …"
list() {
  awk 'NF { split($1, w, ":"); if (!(w[1] in of)) order[++n] = w[1]; of[w[1]] = of[w[1]] (of[w[1]] ? ", " : "") w[2] ($2 == "-" ? "" : " " $2) }
    END { for (i = 1; i <= n; i++) printf "%s%s: %s", (i > 1 ? "; " : ""), order[i], of[order[i]] }' <<< "$1"
}

# try NAME prints its row.
try() {
  local name=$1 before after='' verdict=same
  before=$(boots_before "$name")
  # A way in which it should boot and did not, be it for want of time, is one that nothing was learned of.
  if [ -n "$boot" ] && [ "$(cut -d ' ' -f 1 <<< "$before")" != "$(tr ' ' '\n' <<< "${ways[$name]}")" ]; then
    verdict='**not all boot before**'
    rm -f "$images/$name.boots"
  fi
  local out=$work/$name.out.iso row
  row="| $name | $(stat -c %s "$images/$name.iso") | ${made[$name]:-} | $(list "$before") |"
  if ! repacked "$name"; then
    echo "$row | | refused: $(tail -n 1 "$work/$name.repack.log") |"
    return 1
  fi
  # shellcheck disable=SC2046 # words
  "$work/judge" $(judge_flags "$name") "$images/$name.iso" "$out" >"$work/$name.judged" 2>&1 || verdict+=", **$(grep -vc '^note:' "$work/$name.judged") faults**"
  sed "s/^/  $name: /" "$work/$name.judged" >&2
  if [ -z "$quick" ] && cmp -s "$images/$name.iso" "$out"; then
    after=$before # the same bytes boot alike
  elif [ -n "$before" ]; then
    # shellcheck disable=SC2046 # words
    after=$(boots "$out" "$name" $(cut -d ' ' -f 1 <<< "$before"))
    [ "$(cut -d ' ' -f 1 <<< "$after")" = "$(cut -d ' ' -f 1 <<< "$before")" ] || verdict+=", **boots differ**"
  fi
  echo "$row $(stat -c %s "$out") | $(list "$after") | $verdict |"
  rm -f "$out"
  [ "$verdict" = same ] && { [ -z "$boot" ] || [ -n "$before" ]; }
}

declare -A made
for name in "${all[@]}"; do make_image "$name"; done # here, since nothing stops at an error behind || or if
failed=0
machine
echo
echo "    $command_line"
echo
echo "| image | bytes | seconds to make | boots, seconds | bytes after | boots after | judged |"
echo "|---|--:|--:|---|--:|---|---|"
for name in "${all[@]}"; do try "$name" || failed=$((failed + 1)); done
echo
echo "$((${#all[@]} - failed)) passed, $failed failed"
[ $failed = 0 ]
