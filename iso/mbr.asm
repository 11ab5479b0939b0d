; mbr.asm: boot code of the master boot record, 440 bytes.
;
; The BIOS loads it from a disk's (or USB stick's) first sector to 0:7C00, DL = drive.
; It moves itself away, reads stage 2 to 0:7C00 and jumps to stage 2's entry for disks.
; The image's writer puts stage 2's place at the end of the code, see `lba`.

bits 16
cpu 386
org 0x600

STAGE2       equ 0x7c00
STAGE2_DISK  equ STAGE2+4       ; entry_disk in stage2.asm
STAGE2_MAGIC equ STAGE2+60      ; its mark
TRIES        equ 5

start:
    cli
    xor ax, ax
    mov ss, ax
    mov sp, STAGE2
    mov ds, ax
    mov es, ax
    mov si, sp
    mov di, start
    mov cx, 256
    cld
    rep movsw
    jmp 0:moved
moved:
    sti
    test dl, 0x70               ; GRUB has met BIOSes that pass no drive: 0-F and 80-8F can be
    jz .drive
    mov dl, 0x80
.drive:
    mov [drive], dl
    call serial_init
    mov bp, TRIES
; Not every BIOS that reads by sector number (AH = 42h) says so when asked (AH = 41h):
; it is asked only where reading failed, to say why.
read:
    mov word [dap.count], 4     ; a BIOS that fails writes what it did here
    mov si, dap
    mov ah, 0x42                ; EDD extended read
    call disk
    jnc loaded
    mov ah, 0                   ; reset the drive
    call disk
    dec bp
    jnz read

    mov ah, 0x41                ; EDD: are the extensions there?
    mov bx, 0x55aa
    call disk
    mov si, m_extensions
    cmp bx, 0xaa55
    jne die
    mov si, m_read
    jmp short die

loaded:
    mov dl, [drive]
    cmp dword [STAGE2_MAGIC], 'isop'
    je near STAGE2_DISK
    mov si, m_place
    jmp short die

; disk calls the BIOS's function AH for the drive. It keeps BP.
disk:
    push bp
    mov dl, [drive]
    int 0x13
    call settle
    pop bp
    ret

%include "console.asm"

m_read          db 'cannot read the disk: write the image again or to another', 0
m_extensions    db 'no EDD in BIOS: boot as USB-HDD or by UEFI', 0
m_place         db 'write the image to the whole disk', 0
drive           db 0

    times 424-($-$$) db 0       ; fails to assemble where the code has grown too long
dap:                            ; disk address packet
        db 16, 0
.count  dw 4                    ; stage 2: 2048 bytes
        dw STAGE2, 0
lba     dq 0                    ; stage 2's first 512-byte sector, from the image's writer
