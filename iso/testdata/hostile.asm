; hostile.asm: a boot sector that makes the BIOS worse, for the tests of the BIOS loader, and then
; starts its stage 2 as mbr.asm would. The rest of it is in the sectors behind; it stays at 9000:0
; and takes the BIOS's interrupts. The test fills in `settings`.

bits 16
org 0

HERE     equ 0x9000
SIZE     equ 16                 ; sectors
GUARD    equ 0xa5a5a5a5
STAGE2   equ 0x7c00

%macro offset 1
    times %1-($-$$) db 0
%endmacro

start:                          ; at 0:7C00, DL = drive
    cli
    xor ax, ax
    mov ss, ax
    mov sp, 0x7c00
    mov ds, ax
    sti
    mov si, 0x7c00+dap
    mov ah, 0x42
    int 0x13
    jc $
    jmp HERE:main
dap db 16, 0
    dw SIZE, 0, HERE
    dq 0
    offset 0x1b0
lba dq 0                        ; stage 2's
    offset 510
    dw 0xaa55

guards db 'GRDS'                ; put at HERE:0 when this code has run; for kernel.asm
settings:
; Memory to fill, first and end, till a 0.
fill times 8*2 dd 0
; Entries of E820: bytes that count, then the entry; till a 0.
map times 16*28 db 0
flags dd 0
low_kib dw 0                    ; int 12h's answer, or 0
max_count dw 0                  ; sectors that a read may have, or 0
fail_each dw 0                  ; each so many reads one fails, or 0
fail_lba dd 0                   ; reads from this sector on fail, or 0

NO_E820   equ 1
SMAP_ONCE equ 2                 ; the signature is missing from the second entry on
CARRY_END equ 4                 ; the map ends by an error
CLOBBER   equ 8                 ; registers, flags
STUCK_A20 equ 16
NO_EDD    equ 32
ENDLESS   equ 64                ; the map begins again
CHAIN     equ 128               ; start the boot sector in the last of our sectors, not stage 2

main:
    mov ax, cs
    mov ds, ax
    mov [drive], dl
    ; stage 2
    mov eax, [lba]
    mov [dap+8], eax
    mov word [dap+2], 4
    mov word [dap+4], STAGE2
    mov word [dap+6], 0
    mov si, dap
    mov ah, 0x42
    int 0x13
    jc $
    call fill_memory
    xor ax, ax
    mov es, ax
    cli
%macro hook 1
    mov eax, [es:%1*4]
    mov [old%1], eax
    mov word [es:%1*4], int%1
    mov [es:%1*4+2], cs
%endmacro
    hook 0x10
    hook 0x12
    hook 0x13
    hook 0x15
    test byte [flags], STUCK_A20
    jz .go
    mov word [es:4], int1
    mov [es:4+2], cs
    call a20_off
    mov eax, cr4
    or al, 8                    ; DE: breakpoints on ports
    mov cr4, eax
    mov eax, 0x92
    mov dr0, eax
    mov eax, 0x60
    mov dr1, eax
    call watch
.go:
    mov dl, [drive]
    mov cx, 256                 ; what only the boot sector's room is for now
    push cs
    pop es
    mov si, guards
    xor di, di
    cld
    rep movsw
    xor ax, ax
    mov es, ax
    test byte [flags], CHAIN
    jnz .chain
    mov ds, ax
    jmp 0:STAGE2+4
.chain:
    mov si, (SIZE-1)*512
    mov di, STAGE2
    mov cx, 256
    rep movsw
    mov ds, ax
    jmp 0:STAGE2

; A20 is switched off again after each write to a port that could switch it on.
watch:
    mov eax, 0x00220005         ; dr0 and dr1: one byte, read or written
    mov dr7, eax
    ret
a20_off:
    in al, 0x92
    and al, 0xfc
    out 0x92, al
    ret
int1:
    push eax
    xor eax, eax
    mov dr7, eax
    mov dr6, eax
    call a20_off
    call watch
    pop eax
    iret

fill_memory:
    pushad
    push ds
    push es
    cli
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp short .protected
.protected:
    mov bx, 8
    mov es, bx
    and al, 0xfe
    mov cr0, eax
    jmp short .real
.real:
    mov si, fill
    cld
.next:
    mov edi, [si]
    mov ecx, [si+4]
    add si, 8
    sub ecx, edi
    jz .done
    shr ecx, 2
    mov eax, GUARD
    a32 rep stosd
    jmp .next
.done:
    pop es
    pop ds
    sti
    popad
    ret

align 8, db 0
gdt dq 0
    dw 0xffff, 0, 0x9200, 0x00cf
gdtr dw gdtr-gdt-1
    dd HERE*16+gdt

; leave ends an interrupt: what the caller gets is AX, the carry and, if it counts, EBX.
leave:
    pushf
    test byte [cs:flags], CLOBBER
    jz .done
    popf
    mov cx, 0xdead
    mov ds, cx
    mov es, cx
    mov fs, cx
    mov gs, cx
    mov ecx, 0xbadc0de5
    mov esi, ecx
    mov edi, ecx
    mov ebp, ecx
    mov edx, ecx
    cli
    std
    retf 2
.done:
    popf
    sti
    retf 2

int0x10:
    pushf
    call far [cs:old0x10]
    clc
    jmp leave

int0x12:
    pushf
    call far [cs:old0x12]
    cmp word [cs:low_kib], 0
    je .done
    mov ax, [cs:low_kib]
.done:
    jmp leave

int0x13:
    test byte [cs:flags], NO_EDD
    jnz .none
    cmp ah, 0x42
    jne .old
    mov bx, [cs:max_count]
    test bx, bx
    jz .any
    cmp [si+2], bx
    ja .fail
.any:
    mov ebx, [cs:fail_lba]
    test ebx, ebx
    jz .often
    cmp [si+8], ebx
    jae .fail
.often:
    mov bx, [cs:fail_each]
    test bx, bx
    jz .old
    dec word [cs:countdown]
    jns .old
    mov [cs:countdown], bx
.fail:
    mov word [si+2], 0          ; it read none
    mov ax, 0x1100
    stc
    jmp leave
.none:
    mov ah, 1
    stc
    jmp leave
.old:
    cmp ah, 0x41
    pushf
    je .asked                   ; the answer is in BX
    call far [cs:old0x13]
    mov ebx, 0xbadc0de5
    jmp leave
.asked:
    call far [cs:old0x13]
    jmp leave

int0x15:
    cmp ax, 0xe820
    je .map
    test byte [cs:flags], STUCK_A20
    jz .old
    mov ah, 0x86
    stc
    jmp leave
.old:
    pushf
    call far [cs:old0x15]
    jmp leave
.map:
    test byte [cs:flags], NO_E820
    jnz .none
    push ds
    push cs
    pop ds
    cld
    mov si, bx
    shr si, 4                   ; EBX is the entry's offset times 16
    add si, map
    mov cx, [si]
    jcxz .end
    push si
    add si, 4
    rep movsb
    pop si
    add si, 28
    movzx ebx, si
    sub bx, map
    shl bx, 4
    cmp word [si], 0
    jne .more
    test byte [flags], CARRY_END
    jnz .more
    xor ebx, ebx
    test byte [flags], ENDLESS
    jz .more
    mov bx, 28*16
.more:
    mov eax, 'PAMS'
    test byte [flags], SMAP_ONCE
    jz .signed
    cmp si, map+28
    je .signed
    xor eax, eax
.signed:
    pop ds
    clc
    jmp leave
.end:
    pop ds
.none:
    mov ax, 0x8600
    xor ebx, ebx
    stc
    jmp leave

old0x10 dd 0
old0x12 dd 0
old0x13 dd 0
old0x15 dd 0
countdown dw 0
drive db 0
    offset (SIZE-1)*512
    times 512 db 0
