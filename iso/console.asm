; console.asm: what the BIOS loader says, on the screen and on COM1 (115200 8N1).
; Included by mbr.asm and stage2.asm; both run with DS = 0.

COM1 equ 0x3f8

; serial_init sets COM1 to 115200 8N1. Where there is no port, nothing listens.
serial_init:
    mov dx, COM1+3              ; line control
    mov al, 0x80                ; divisor latch on
    out dx, al
    mov dx, COM1
    mov al, 1                   ; divisor 1: 115200
    out dx, al
    inc dx
    mov al, 0
    out dx, al
    mov dx, COM1+3
    mov al, 3                   ; 8 bits, no parity, 1 stop bit; latch off
    out dx, al
    ret

; puts prints the NUL-terminated string at SI.
puts:
    lodsb
    test al, al
    jz .done
    call putc
    jmp puts
.done:
    ret

; putc prints AL. It keeps every register, whatever the BIOS does to them.
putc:
    pushad
    push ax
    mov ah, 0x0e                ; teletype output
    mov bx, 7
    int 0x10
    mov dx, COM1+5              ; line status
    in al, dx
    cmp al, 0xff                ; an empty bus: no port
    mov cx, 0xffff
    je .absent
.wait:
    in al, dx
    test al, 0x20               ; transmitter empty
    loopz .wait                 ; a stuck port must not stop the boot
    pop ax
    mov dx, COM1
    out dx, al
    popad
    ret
.absent:
    pop ax
    popad
    ret
