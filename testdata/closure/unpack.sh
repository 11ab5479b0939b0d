# A store path of everything in a Debian package.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
set -e
mkdir -p "$out"
dpkg-deb --fsys-tarfile "$src" | tar -x -C "$out" --no-same-owner
