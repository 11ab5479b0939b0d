#!/bin/bash
# Boot an ISO of a closure in every way that it is meant for, and print a table in Markdown of the
# seconds from the start of QEMU to a line that the guest writes: BIOS and UEFI, with 256 MB and 2 GB of
# memory, from an IDE CD, an AHCI CD (q35), a USB stick, a virtio disk and NVMe; then FAT32, systemd's
# stub and GRUB.
#
#   testdata/bench/boots.sh [OPTIONS]
#
#   --closure DIR     store-paths, registration and result (default: bin/closure, of testdata/make-closure)
#   --expect REGEXP   the line (default: the demonstration's, written when the guest has compared the
#                     store's files with their SHA-256; 'login: $' suits a closure with a login)
#   --only LIST       which of plain,fat32,stub,grub (default: all)
#   --timeout TIME    for one boot (default: 10m)
#
# A boot that fails has its reason in the table, its console is kept, and the exit status is 1.
#
# Environment: ISOPRESS is the program (default: bin/isopress), BUILD_FLAGS are for its build
# ("--compression zstd:3"), EFI_STUB is systemd's stub (default: of Debian's systemd-boot-efi), JOBS are
# the boots at once (2), TMPDIR is where the ISOs and the consoles of failed boots go.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
isopress=${ISOPRESS:-$here/../../bin/isopress}
stub=${EFI_STUB:-/usr/lib/systemd/boot/efi/linuxx64.efi.stub}
jobs=${JOBS:-2}
read -ra build_flags <<< "${BUILD_FLAGS:-}"

closure=$here/../../bin/closure expect='^ISOPRESS-DEMO: [0-9]+ store paths' only=plain,fat32,stub,grub timeout=10m
command_line="testdata/bench/boots.sh${*:+$(printf ' %q' "$@")}"
while [ $# -gt 0 ]; do
  option=$1; shift
  [ $# -gt 0 ] || usage
  case $option in
    --closure) closure=$1 ;;
    --expect) expect=$1 ;;
    --only) only=$1 ;;
    --timeout) timeout=$1 ;;
    *) usage ;;
  esac
  shift
done
for f in store-paths registration result; do [ -e "$closure/$f" ] || die "$closure/$f: not found"; done
need "$isopress" "go build -o bin/ ./cmd/..."
need qemu-system-x86_64 "Debian: apt install qemu-system-x86 ovmf"

work=$(mktemp -d -t isopress-boots.XXXXXX)
trap 'rm -f "$work"/*.iso; rmdir "$work/failed" "$work" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work/failed"

# --- The table: a row each, with the image to boot, how to attach it, and its cells' FIRMWARE:MEMORY

columns=(bios:256M bios:2G uefi:256M uefi:2G)
row_name=() row_image=() row_attach=() row_cells=()
add_row() { row_name+=("$1") row_image+=("$2") row_attach+=("$3") row_cells+=("$4"); }
IFS=, read -ra kinds <<< "$only"
for kind in "${kinds[@]}"; do
  case $kind in
    plain)
      add_row 'IDE CD' plain cdrom "${columns[*]}"
      add_row 'AHCI CD' plain ahci "${columns[*]}"
      add_row 'USB stick' plain usb "${columns[*]}"
      add_row 'virtio disk' plain virtio "${columns[*]}"
      add_row 'NVMe' plain nvme "${columns[*]}"
      ;;
    fat32) add_row 'FAT32, USB stick' fat32 usb uefi:2G ;;
    stub) add_row "systemd's stub, IDE CD" stub cdrom uefi:2G ;;
    grub)
      add_row 'GRUB, IDE CD' grub cdrom 'bios:2G uefi:2G'
      add_row 'GRUB, virtio disk' grub virtio 'bios:2G uefi:2G'
      ;;
    *) usage ;;
  esac
done

# build IMAGE makes $work/IMAGE.iso; what goes wrong is the reason of all its boots.
build() {
  local flags=()
  case $1 in
    fat32) flags=(--fat32) ;;
    stub) flags=(--efi-stub "$stub") ;;
    grub) flags=(--boot-loader grub) ;;
  esac
  "$isopress" build --closure "$closure/store-paths" --registration "$closure/registration" \
    --system "$(readlink "$closure/result")" --cache off "${build_flags[@]}" "${flags[@]}" -q -o "$work/$1.iso" 2>"$work/log" ||
    sed -n 's/^isopress: //p; q' "$work/log" > "$work/$1.reason"
  rm "$work/log"
}

# boot NAME IMAGE ATTACH FIRMWARE MEMORY leaves NAME.seconds, or NAME.reason and the console.
boot() {
  local name=$work/$1 json
  if [ -e "$work/$2.reason" ]; then cp "$work/$2.reason" "$name.reason"; return; fi
  if json=$("$isopress" boot "$work/$2.iso" --attach "$3" --firmware "$4" --memory "$5" \
      --expect "$expect" --timeout "$timeout" --json 2>"$name.console"); then
    field seconds "$json" > "$name.seconds"
    field accel "$json" > "$work/accel"
    rm "$name.console"
  else
    field error "$json" > "$name.reason"
    mv "$name.console" "$work/failed/$2-$4-$3-$5.console"
  fi
}

cell() { # cell ROW COLUMN prints what the table says
  local name=$work/$1.$2
  if [ -s "$name.seconds" ]; then printf '%.1f' "$(cat "$name.seconds")"
  elif [ -e "$name.reason" ]; then echo "failed: $(head -c 200 "$name.reason" | tr '|' /)"; fi
}

for image in $(printf '%s\n' "${row_image[@]}" | uniq); do build "$image"; done
for row in "${!row_name[@]}"; do
  for column in ${row_cells[row]}; do
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
    boot "$row.$column" "${row_image[row]}" "${row_attach[row]}" "${column%:*}" "${column#*:}" &
  done
done
wait

accel=$(cat "$work/accel" 2>/dev/null || true)
echo "$(machine), $jobs boots at once;" \
  "$(qemu-system-x86_64 --version | sed -n '1s/.*version \([^ ]*\).*/QEMU \1/p')${accel:+, $accel}. Seconds."
echo
echo "    $command_line"
echo
echo "| | BIOS, 256 MB | BIOS, 2 GB | UEFI, 256 MB | UEFI, 2 GB |"
echo "|---|--:|--:|--:|--:|"
for row in "${!row_name[@]}"; do
  line="| ${row_name[row]} |"
  for column in "${columns[@]}"; do line+=" $(cell "$row" "$column") |"; done
  echo "$line"
done

failed=$(find "$work" -name '*.reason' | wc -l)
[ -z "$(ls "$work/failed")" ] || echo "boots.sh: the consoles of failed boots are in $work/failed" >&2
find "$work" -maxdepth 1 \( -name '*.seconds' -o -name '*.reason' -o -name accel \) -delete
[ "$failed" = 0 ]
