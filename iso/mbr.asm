; mbr.asm: boot code of the master boot record, 440 bytes.
;
; The BIOS loads it from a disk's (or USB stick's) first sector to 0:7C00, DL = drive.
; It moves itself away, reads stage 2 to 0:7C00 and jumps to stage 2's entry for disks.
; The image's writer puts stage 2's place at the end of the code, see `lba`.

bits 16
cpu 386
org 0x600

STAGE2      equ 0x7c00
STAGE2_DISK equ STAGE2+4        ; entry_disk in stage2.asm

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
    mov [drive], dl
    mov bp, 5                   ; tries
read:
    mov word [dap.count], 4     ; a BIOS that fails writes what it did here
    mov si, dap
    mov dl, [drive]
    mov ah, 0x42                ; EDD extended read
    push bp
    int 0x13
    pop bp
    jnc loaded
    xor ax, ax                  ; reset the drive
    mov dl, [drive]
    int 0x13
    dec bp
    jnz read
    call serial_init
    mov si, message
    call puts
.halt:
    hlt
    jmp .halt
loaded:
    mov dl, [drive]
    jmp 0:STAGE2_DISK

%include "console.asm"

message db 13, 10, 'isopress: the BIOS cannot read the disk', 13, 10, 0
drive   db 0

    times 424-($-$$) db 0       ; fails to assemble where the code has grown too long
dap:                            ; disk address packet
        db 16, 0
.count  dw 4                    ; stage 2: 2048 bytes
        dw STAGE2, 0
lba     dq 0                    ; stage 2's first 512-byte sector, from the image's writer
