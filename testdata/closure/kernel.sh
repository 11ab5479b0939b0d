# The kernel image alone, under the name that NixOS gives it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
set -e
mkdir -p "$out"
dpkg-deb --fsys-tarfile "$src" | tar -x -O --wildcards './boot/vmlinuz-*' > "$out/bzImage"
