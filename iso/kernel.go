package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Fields of Linux's setup header (Documentation/arch/x86/boot.rst).
const (
	setupSects        = 0x1F1
	setupBootFlag     = 0x1FE
	setupHeader       = 0x202
	setupVersion      = 0x206
	setupLoadFlags    = 0x211
	setupXLoadFlags   = 0x236
	setupCmdlineSize  = 0x238
	setupPrefAddress  = 0x258
	setupInitSize     = 0x260
	setupEnd          = 0x264
	setupMinVersion   = 0x020C // Linux 3.8: xloadflags
	setupMaxSects     = 64
	loadedHigh        = 1 << 0
	xlfKernel64       = 1 << 0
	arm64ImageMagic   = 0x38
	peHeaderOffset    = 0x3C
	peHeaderAndTarget = 6
)

// CheckKernel returns why a file is no kernel that both loaders can start: an x86-64 bzImage with an
// EFI stub.
func CheckKernel(r io.ReaderAt, size int64) error {
	b := make([]byte, setupEnd)
	if _, err := r.ReadAt(b, 0); errors.Is(err, io.EOF) {
		return errors.New("iso: no Linux kernel: the file is too short")
	} else if err != nil {
		return fmt.Errorf("iso: kernel: %w", err)
	}
	if err := checkSetup(b, size); err != nil {
		return fmt.Errorf("iso: %w", err)
	}
	return checkKernelPE(r, b)
}

func checkSetup(b []byte, size int64) error {
	version := le.Uint16(b[setupVersion:])
	head := (max(int64(b[setupSects]), 1) + 1) * blockSize
	switch {
	case bytes.HasPrefix(b, []byte("\x7FELF")):
		return errors.New("kernel is an ELF file: give the bzImage instead of vmlinux")
	case bytes.HasPrefix(b, []byte("\x1F\x8B")):
		return errors.New("kernel is a gzip file: give an x86-64 bzImage")
	case string(b[arm64ImageMagic:arm64ImageMagic+4]) == "ARM\x64":
		return errors.New("kernel is an AArch64 one: only x86-64 boots")
	case le.Uint16(b[setupBootFlag:]) != 0xAA55 || string(b[setupHeader:setupHeader+4]) != "HdrS":
		return errors.New("no Linux kernel: an x86-64 bzImage is needed")
	case version < setupMinVersion:
		return fmt.Errorf("kernel is too old: boot protocol %d.%02d, 2.12 (Linux 3.8) is needed", version>>8, version&0xFF)
	case b[setupLoadFlags]&loadedHigh == 0:
		return errors.New("kernel is a zImage: give a bzImage")
	case le.Uint16(b[setupXLoadFlags:])&xlfKernel64 == 0:
		return errors.New("kernel is a 32-bit one: only x86-64 boots")
	case b[setupSects] > setupMaxSects || head >= size:
		return fmt.Errorf("kernel is damaged: setup_sects is %d in a file of %d bytes", b[setupSects], size)
	case le.Uint32(b[setupCmdlineSize:]) < maxCmdline:
		return fmt.Errorf("kernel takes command lines of %d bytes, must be at least %d", le.Uint32(b[setupCmdlineSize:]), maxCmdline)
	case le.Uint32(b[setupInitSize:]) == 0 || le.Uint64(b[setupPrefAddress:])>>32 != 0:
		return errors.New("kernel is damaged: init_size or pref_address cannot be")
	}
	return nil
}

// checkKernelPE looks for the PE header that makes a kernel an EFI application.
func checkKernelPE(r io.ReaderAt, b []byte) error {
	none := errors.New("iso: kernel has no EFI stub (CONFIG_EFI_STUB), so UEFI cannot start it")
	if b[0] != 'M' || b[1] != 'Z' {
		return none
	}
	h := make([]byte, peHeaderAndTarget)
	if _, err := r.ReadAt(h, int64(le.Uint32(b[peHeaderOffset:]))); errors.Is(err, io.EOF) {
		return none
	} else if err != nil {
		return fmt.Errorf("iso: kernel: %w", err)
	}
	if string(h[:4]) != "PE\x00\x00" {
		return none
	}
	if m := le.Uint16(h[4:]); m != peMachineX64 {
		return fmt.Errorf("iso: kernel is for PE machine %#04x: only x86-64 boots", m)
	}
	return nil
}
