// Package iso writes bootable hybrid ISO 9660 images, deterministically and in place, and reads and rewrites those
// that others made.
//
// An image is ISO 9660 level 3 with Rock Ridge, and Joliet where asked for. With a kernel, the same
// bytes boot as a CD (El Torito, BIOS and UEFI) and as a disk (master boot record and GUID partition
// table). No file's bytes lie twice: the EFI system partition is only metadata, whose one file, a
// unified kernel image, is laid over the sectors of the ISO's own kernel and initrd.
//
// A Writer lays everything out before it writes a byte, then takes the files' contents in the order in
// which they lie, and writes the metadata last.
//
// An Image is read from bytes that need not be trusted. It can be rewritten with other files in it: what lies behind
// them moves, and everything that records where something lies follows, or the change is refused.
//
// Specifications: ECMA-119 (ISO 9660), IEEE P1281 and P1282 (SUSP, Rock Ridge 1.10), Joliet 1995, El
// Torito 1.0, UEFI 2.10 chapters 5 and 13, Microsoft's FAT 1.03 and PE formats, and Linux's
// Documentation/arch/x86/boot.rst.
package iso
