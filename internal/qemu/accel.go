package qemu

import (
	"os"
)

// bestAccel is KVM when the device opens and Intel's or AMD's hardware virtualisation stands behind
// it. Without that (a KVM by page tables alone, in some clouds' guests) the device opens, firmware
// runs, and an ordinary kernel hangs.
func bestAccel() Accel {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG
	}
	f.Close()
	for _, module := range []string{"/sys/module/kvm_intel", "/sys/module/kvm_amd"} {
		if _, err := os.Stat(module); err == nil {
			return KVM
		}
	}
	return TCG
}
