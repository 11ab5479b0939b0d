# Sourced by demo.sh and test.sh: functions that set a Debian machine up.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin DEBIAN_FRONTEND=noninteractive

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E "$@"; fi; }

# install PROGRAM=PACKAGE...: apt-get the packages of programs (or files) that are not there.
install() {
  local missing=() want
  for want; do
    command -v "${want%%=*}" >/dev/null || [ -e "${want%%=*}" ] || missing+=("${want#*=}")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "installing ${missing[*]}" >&2
  as_root apt-get update -qq
  as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build: bin/isopress and bin/isopress-init, the same from every checkout. The
# compression engine is C (libzstd), the initrd's init static.
build() {
  command -v go >/dev/null || { echo "Go is needed: https://go.dev/doc/install" >&2; exit 1; }
  install cc=gcc /usr/include/stdlib.h=libc6-dev /etc/ssl/certs/ca-certificates.crt=ca-certificates
  mkdir -p bin
  go build -trimpath -buildvcs=false -o bin/isopress ./cmd/isopress
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o bin/isopress-init ./cmd/isopress-init
}

# closure: a small bootable closure in bin/closure.
closure() { as_root bash testdata/make-closure "$PWD/bin/closure"; }
