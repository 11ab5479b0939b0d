; console.asm: what the BIOS loader says, on the screen and on COM1 (115200 8N1).
; Included by mbr.asm and stage2.asm; both run with DS = ES = 0.

COM1        equ 0x3f8
ACTIVE_PAGE equ 0x462           ; of the screen, in the BIOS's data area

; serial_init sets COM1 to 115200 8N1, if it is there: a port that is not does not hold what
; was written to it.
serial_init:
    mov dx, COM1+3              ; line control
    mov al, 0x80                ; divisor latch on
    out dx, al
    mov dx, COM1
    mov al, 1                   ; divisor 1: 115200
    out dx, al
    inc dx
    dec ax
    out dx, al
    mov dx, COM1+3
    mov al, 3                   ; 8 bits, no parity, 1 stop bit; latch off
    out dx, al
    in al, dx
    sub al, 3
    mov [no_serial], al
    inc dx                      ; modem control
    mov al, 3                   ; DTR, RTS: a remote console may wait for them
    out dx, al
    ret

; die says why the boot stops, the string at SI, and stops. Ctrl-Alt-Del still works.
die:
    call say
    mov si, m_end
; stop ends a last word with the string at SI.
stop:
    call puts
.halt:
    hlt
    jmp short .halt

; say begins a last word: the string at SI says why the boot stops.
say:
    push si
    mov si, m_stop
    call puts
    pop si

; puts prints the NUL-terminated string at SI.
puts:
    lodsb
    test al, al
    jz .done
    call putc
    jmp short puts
.done:
    ret

; putc prints AL. It keeps every register, whatever the BIOS does to them.
putc:
    pushad
    push ax
    mov ah, 0x0e                ; teletype output
    mov bh, [ACTIVE_PAGE]
    mov bl, 7
    int 0x10
    call settle
    cmp byte [no_serial], 0
    jne .done
    mov dx, COM1+5              ; line status
    xor cx, cx                  ; 65536 times
.wait:
    in al, dx
    test al, 0x20               ; transmitter empty
    loopz .wait
    jnz .ready
    inc byte [no_serial]        ; a stuck port must not stop the boot
.ready:
    pop ax
    push ax
    mov dx, COM1
    out dx, al
.done:
    pop ax
    popad
    ret

; settle takes back what a BIOS may have changed in passing: segments, the direction flag,
; interrupts. (isolinux has met such BIOSes.) It keeps the carry and the general registers.
settle:
    push 0
    pop ds
    push 0
    pop es
    cld
    sti
    ret

m_stop    db 13, 10, 10, 'isopress: THE BOOT STOPS HERE: ', 0
m_end     db 13, 10, 0
no_serial db 0
