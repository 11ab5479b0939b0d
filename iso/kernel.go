package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Fields of Linux's setup header (Documentation/arch/x86/boot.rst).
const (
	setupSects       = 0x1F1
	setupSysSize     = 0x1F4
	setupBootFlag    = 0x1FE
	setupHeader      = 0x202
	setupVersion     = 0x206
	setupLoadFlags   = 0x211
	setupInitrdMax   = 0x22C
	setupAlignment   = 0x230
	setupRelocatable = 0x234
	setupXLoadFlags  = 0x236
	setupCmdlineSize = 0x238
	setupPrefAddress = 0x258
	setupInitSize    = 0x260
	setupEnd         = 0x264
	setupMinVersion  = 0x020C // Linux 3.8: xloadflags
	setupMaxSects    = 64
	setupParagraph   = 16 // setupSysSize's unit
	loadedHigh       = 1 << 0
	xlfKernel64      = 1 << 0
	peHeaderOffset   = 0x3C
)

const (
	// maxKernel is four times the largest kernels of distributions, and what the BIOS loader is tested
	// with. A larger file is something else.
	maxKernel = 64 << 20

	// maxInitSize is KERNEL_IMAGE_SIZE, 1 GiB (arch/x86/include/asm/page_64_types.h), and as much again
	// to unpack it in place.
	maxInitSize = 2 << 30
)

// notKernels are files that are given in place of a bzImage, by what is at an offset in them.
var notKernels = []struct {
	offset       int
	magic, error string
}{
	{0, "\x7FELF", "kernel is an ELF file: give the bzImage instead of vmlinux"},
	{0, "\x1F\x8B", "kernel is a gzip file: give an x86-64 bzImage"},
	{0, "\xFD7zXZ\x00", "kernel is an xz file: give an x86-64 bzImage"},
	{0, "\x28\xB5\x2F\xFD", "kernel is a zstd file: give an x86-64 bzImage"},
	{4, "zimg", "kernel is an EFI zboot image, of another architecture: only x86-64 boots"},
	{0x38, "ARM\x64", "kernel is an AArch64 one: only x86-64 boots"},
	{0x38, "RSC\x05", "kernel is a RISC-V one: only x86-64 boots"},
}

// CheckKernel returns why a file is no kernel that both loaders can start: an x86-64 bzImage of at most
// 64 MiB, whole, with an EFI stub. It reads the headers only.
func CheckKernel(r io.ReaderAt, size int64) error {
	b := make([]byte, setupEnd)
	switch n, err := r.ReadAt(b, 0); {
	case n < len(b) && errors.Is(err, io.EOF):
		return errors.New("iso: no Linux kernel: the file is too short")
	case n < len(b):
		return fmt.Errorf("iso: kernel: %w", err)
	}
	err := checkMagic(b)
	if err == nil {
		err = checkSetup(b)
	}
	if err == nil {
		err = checkSizes(b, size)
	}
	if err == nil {
		err = checkKernelPE(r, b, size)
	}
	if err != nil {
		return fmt.Errorf("iso: %w", err)
	}
	return nil
}

// MaxInitrd returns the bytes of the largest initrd that a BIOS loader has room for: in one piece between
// 1 MiB and the kernel's initrd_addr_max, beside what the kernel unpacks to. A machine that reserves
// memory there has less. The kernel is one that CheckKernel takes.
func MaxInitrd(kernel io.ReaderAt) (int64, error) {
	b := make([]byte, setupEnd)
	if n, err := kernel.ReadAt(b, 0); n < len(b) {
		return 0, fmt.Errorf("iso: kernel: %w", err)
	}
	const page, low = 4096, 1 << 20
	limit := (int64(le.Uint32(b[setupInitrdMax:])) + 1) / page * page
	first := int64(le.Uint64(b[setupPrefAddress:]))
	end := roundUp(first+int64(le.Uint32(b[setupInitSize:])), page)
	if b[setupRelocatable] == 0 {
		first = low
	}
	return max(limit-max(end, low), min(first, limit)-low, 0), nil
}

func checkMagic(b []byte) error {
	for _, not := range notKernels {
		if bytes.HasPrefix(b[not.offset:], []byte(not.magic)) {
			return errors.New(not.error)
		}
	}
	linux := le.Uint16(b[setupBootFlag:]) == 0xAA55 && string(b[setupHeader:setupHeader+4]) == "HdrS"
	switch {
	case !linux && string(b[:2]) == "MZ":
		return errors.New("kernel is an EFI program, but no bzImage: of a unified kernel image, give the kernel in it")
	case !linux:
		return errors.New("no Linux kernel: an x86-64 bzImage is needed")
	}
	return nil
}

// checkSetup looks whether a bzImage is one that the loaders know how to start.
func checkSetup(b []byte) error {
	version := le.Uint16(b[setupVersion:])
	switch {
	case version < setupMinVersion:
		return fmt.Errorf("kernel is too old: boot protocol %d.%02d, 2.12 (Linux 3.8) is needed", version>>8, version&0xFF)
	case b[setupLoadFlags]&loadedHigh == 0:
		return errors.New("kernel is a zImage: give a bzImage")
	case le.Uint16(b[setupXLoadFlags:])&xlfKernel64 == 0:
		return errors.New("kernel is a 32-bit one: only x86-64 boots")
	case le.Uint32(b[setupCmdlineSize:]) < maxCmdline:
		return fmt.Errorf("kernel takes command lines of %d bytes, must be at least %d", le.Uint32(b[setupCmdlineSize:]), maxCmdline)
	}
	return nil
}

// checkSizes looks for what cannot be in a kernel's header, for a file of size bytes.
func checkSizes(b []byte, size int64) error {
	sects := int64(b[setupSects])
	if sects == 0 {
		sects = 4 // from before it was a field
	}
	head := (sects + 1) * blockSize
	whole := head + int64(le.Uint32(b[setupSysSize:]))*setupParagraph
	initSize, address := int64(le.Uint32(b[setupInitSize:])), le.Uint64(b[setupPrefAddress:])
	align := le.Uint32(b[setupAlignment:])
	switch {
	case sects > setupMaxSects || head >= size:
		return fmt.Errorf("kernel is damaged: setup_sects is %d in a file of %d bytes", sects, size)
	case whole-setupParagraph >= size: // old kernels round up
		return fmt.Errorf("kernel is cut off: it has %d bytes of %d", size, whole)
	case size > maxKernel:
		return fmt.Errorf("kernel is too large: %d bytes, at most %d boot", size, int64(maxKernel))
	case initSize == 0 || initSize > maxInitSize || address >= 1<<32-maxInitSize:
		return fmt.Errorf("kernel is damaged: init_size is %d, pref_address %#x", initSize, address)
	case b[setupRelocatable] != 0 && (align < peVirtualAlign || align&(align-1) != 0):
		return fmt.Errorf("kernel is damaged: kernel_alignment is %#x", align)
	}
	return nil
}

// checkKernelPE looks for the PE header that makes a kernel an EFI application.
func checkKernelPE(r io.ReaderAt, b []byte, size int64) error {
	none := errors.New("kernel has no EFI stub (CONFIG_EFI_STUB), so UEFI cannot start it")
	if b[0] != 'M' || b[1] != 'Z' {
		return none
	}
	at := int64(le.Uint32(b[peHeaderOffset:]))
	h := make([]byte, peOptionalOffset+peMinOptional)
	if at > size-int64(len(h)) {
		return fmt.Errorf("kernel is damaged: its PE header lies at %d of %d bytes", at, size)
	}
	if n, err := r.ReadAt(h, at); n < len(h) {
		return fmt.Errorf("kernel: %w", err)
	}
	if string(h[:4]) != "PE\x00\x00" {
		return none
	}
	if m := le.Uint16(h[4:]); m != peMachineX64 {
		return fmt.Errorf("kernel is for PE machine %#04x: only x86-64 boots", m)
	}
	return nil
}
