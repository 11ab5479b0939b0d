package qemu

import (
	"fmt"
	"strconv"
	"strings"
)

// args is QEMU's command line. The QMP connection is file descriptor 3, so that no socket needs a
// path, and none is left over.
func (c Config) args(fw firmwareFiles) []string {
	a := []string{"-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-net", "none", "-no-reboot"}
	a = append(a, c.machineArgs()...)
	a = append(a, "-m", fmt.Sprintf("%dM", c.Memory>>20), "-smp", strconv.Itoa(c.CPUs))
	a = append(a, "-serial", "stdio", "-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control")
	if c.ScreenshotPath != "" {
		a = append(a, "-no-shutdown") // a guest that ends is stopped, and its screen can still be read
	}
	a = append(a, fw.args()...)
	a = append(a, c.kernelArgs()...)
	if c.Image != "" {
		a = append(a, c.imageArgs()...)
	}
	for i, d := range c.Disks {
		id := fmt.Sprintf("disk%d", i)
		a = append(a, "-drive", drive(id, d, "readonly=on"), "-device", "virtio-blk-pci,drive="+id)
	}
	return append(a, c.Extra...)
}

func (c Config) machineArgs() []string {
	machine := "pc"
	if c.Attach == AHCI {
		machine = "q35"
	}
	a := []string{"-machine", machine}
	if c.Accel == KVM {
		// The second one is for a KVM that opens and then cannot make a machine.
		return append(a, "-accel", "kvm", "-accel", "tcg", "-cpu", "max")
	}
	return append(a, "-accel", "tcg")
}

func (c Config) kernelArgs() []string {
	if c.Kernel == "" {
		return nil
	}
	a := []string{"-kernel", c.Kernel, "-append", c.Append}
	if c.Initrd != "" {
		a = append(a, "-initrd", c.Initrd)
	}
	return a
}

// imageArgs attaches the image. IDE and NVMe disks cannot be read-only in QEMU; theirs is a
// temporary overlay that QEMU has already unlinked.
func (c Config) imageArgs() []string {
	var controller []string
	device, access := "", "readonly=on"
	switch c.Attach {
	case CDROM, AHCI:
		device, access = "ide-cd", "readonly=on,media=cdrom"
	case USB:
		controller = []string{"-device", "qemu-xhci"}
		device = "usb-storage"
	case IDE:
		device, access = "ide-hd", "snapshot=on"
	case Virtio:
		device = "virtio-blk-pci"
	case NVMe:
		device, access = "nvme,serial=isopress", "snapshot=on"
	}
	return append(controller, "-drive", drive("boot", c.Image, access), "-device", device+",drive=boot,bootindex=0")
}

// drive describes a raw image for -drive. A comma in a path is doubled, as QEMU's option syntax wants.
func drive(id, path, access string) string {
	return fmt.Sprintf("if=none,id=%s,format=raw,%s,file.locking=off,file=%s", id, access, escape(path))
}

func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
