#!/bin/bash
# From a checkout to a guest's own words: sets the machine up, makes a small Nix
# closure, presses it into an ISO, and boots that under QEMU.
set -euo pipefail
. "$(dirname "$0")/setup.sh"
build
install qemu-system-x86_64=qemu-system-x86
closure

set -x
bin/isopress build --closure bin/closure/store-paths --registration bin/closure/registration \
  --system "$(readlink bin/closure/result)" -o bin/demo.iso
bin/isopress boot bin/demo.iso --expect '^ISOPRESS-DEMO: [0-9]+ store paths'
