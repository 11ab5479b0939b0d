; stage2.asm: loads Linux on a BIOS, from CD and from disk. 2048 bytes, one CD sector.
;
; El Torito (no emulation) loads it to 0:7C00 and enters at the start; mbr.asm does the same
; and enters at entry_disk. Kernel, initrd and command line are no files here but sectors,
; which the image's writer puts into the parameter block.
;
; Memory while it runs:
;   07C00-08400  this code, the stack below it
;   10000-1E000  the kernel's real-mode part, its heap and stack
;   1E000-1E800  the command line
;   20000-30000  bounce buffer: the BIOS reads to low memory only
;   the kernel where it prefers to lie, the initrd as high as it may: in RAM the BIOS reports
; Linux's side of it: Documentation/arch/x86/boot.rst, "The Linux/x86 Boot Protocol".

bits 16
cpu 386
org 0x7c00

SETUP_SEG   equ 0x1000
SETUP_MAX   equ 64              ; sectors of the real-mode part, less the boot sector
CMDLINE     equ 0xe000          ; in SETUP_SEG; also the end of the kernel's heap and stack
CMDLINE_SEG equ SETUP_SEG+CMDLINE/16
BOUNCE_SEG  equ 0x2000
BOUNCE      equ BOUNCE_SEG*16
BOUNCE_SIZE equ 0x10000
LOW_KIB     equ (BOUNCE+BOUNCE_SIZE)/1024
READ_MAX    equ 0x8000          ; bytes a request: some BIOSes take no more than 127 sectors
TRIES       equ 5

; Fields of the kernel's setup header.
SETUP_SECTS     equ 0x1f1
HEADER          equ 0x202
VERSION         equ 0x206
TYPE_OF_LOADER  equ 0x210
LOADFLAGS       equ 0x211
CODE32_START    equ 0x214
RAMDISK_IMAGE   equ 0x218
RAMDISK_SIZE    equ 0x21c
HEAP_END_PTR    equ 0x224
CMD_LINE_PTR    equ 0x228
INITRD_ADDR_MAX equ 0x22c
RELOCATABLE     equ 0x234
CMDLINE_SIZE    equ 0x238
PREF_ADDRESS    equ 0x258
INIT_SIZE       equ 0x260
VERSION_MIN     equ 0x20a       ; the first with pref_address and init_size

start:
    mov cl, 0                   ; CD: sectors of 2048 bytes
    jmp short enter
entry_disk:
    mov cl, 2                   ; disk: 2048 bytes are 1 << 2 sectors
enter:
    jmp 0:main                  ; some BIOSes come as 07C0:0000
%if entry_disk-start != 4
%error "mbr.asm jumps to offset 4"
%endif

    times 64-($-$$) db 0
; The parameter block: sectors are of 2048 bytes, sizes in bytes.
kernel_sector   dd 0
kernel_size     dd 0
initrd_sector   dd 0
initrd_size     dd 0            ; 0: none
cmdline_sector  dd 0

main:
    cli
    cld
    xor ax, ax
    mov ss, ax
    mov sp, start
    mov ds, ax
    mov es, ax
    sti
    mov [drive], dl
    mov [shift], cl
    call serial_init
    mov si, m_hello
    call puts
    int 0x12                    ; KiB of low memory
    cmp ax, LOW_KIB
    mov si, m_low
    jb die
    call enable_a20
    call load_cmdline
    call load_kernel
    call load_initrd
    mov si, m_go
    call puts

; The kernel's 16-bit entry: boot.rst, "Running the Kernel".
    cli
    mov ax, SETUP_SEG
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov sp, CMDLINE
    jmp SETUP_SEG+0x20:0

; ---- the command line, and its length
load_cmdline:
    mov eax, [cmdline_sector]
    mov [sector], eax
    mov ecx, 2048
    mov bx, CMDLINE_SEG
    call read
    mov ax, CMDLINE_SEG
    mov es, ax
    xor di, di
    xor ax, ax
    mov cx, 2048
    repne scasb                 ; its NUL
    dec di
    mov [cmdline_length], di
    mov es, ax
    ret

; ---- the kernel: its real-mode part below, the rest where it prefers to be
load_kernel:
    mov eax, [kernel_sector]
    mov [sector], eax
    mov eax, [kernel_size]
    mov [left], eax
    call fill                   ; ECX = bytes in the bounce buffer
    mov ax, BOUNCE_SEG
    mov fs, ax
    mov si, m_kernel
    cmp dword [fs:HEADER], 'HdrS'
    jne die
    test byte [fs:LOADFLAGS], 1 ; LOADED_HIGH: a bzImage
    jz die
    mov si, m_old
    cmp word [fs:VERSION], VERSION_MIN
    jb die
    mov si, m_cmdline
    movzx eax, word [cmdline_length]
    cmp [fs:CMDLINE_SIZE], eax
    jb die

    movzx ebp, byte [fs:SETUP_SECTS]
    mov si, m_kernel
    cmp bp, SETUP_MAX
    ja die
    test bp, bp
    jnz .setup_sects
    mov bp, 4                   ; 0 means 4, from before it was a field
.setup_sects:
    inc bp                      ; and the boot sector
    shl ebp, 9                  ; EBP = size of the real-mode part
    sub ecx, ebp
    jbe die
    push ecx                    ; bytes behind it in the bounce buffer
    mov ecx, ebp
    mov esi, BOUNCE
    mov edi, SETUP_SEG*16
    call copy

    ; The kernel needs [load, end): what it unpacks to, and in any case what the file holds.
    mov edi, 0x100000           ; where a kernel that cannot be moved starts
    mov edx, [fs:PREF_ADDRESS]
    cmp byte [fs:RELOCATABLE], 0
    je .fixed
    mov edi, edx
.fixed:
    mov si, m_kernel_memory
    cmp dword [fs:PREF_ADDRESS+4], 0
    jne die
    add edx, [fs:INIT_SIZE]
    jc die
    mov ecx, [kernel_size]
    sub ecx, ebp
    add ecx, edi
    jc die
    cmp edx, ecx
    jae .end
    mov edx, ecx
.end:
    add edx, 0xfff              ; place answers in pages
    jc die
    and edx, 0xfffff000
    mov [floor], edi
    mov [ceiling], edx
    sub edx, edi
    mov [need], edx
    push edi
    push ebp
    call place                  ; exactly there or nowhere
    pop ebp
    pop edi
    mov si, m_kernel_memory
    cmp eax, edi
    jne die

    mov ax, SETUP_SEG
    mov fs, ax
    mov byte [fs:TYPE_OF_LOADER], 0xff          ; no assigned number
    or byte [fs:LOADFLAGS], 0x80                ; CAN_USE_HEAP
    mov word [fs:HEAP_END_PTR], CMDLINE-0x200
    mov dword [fs:CMD_LINE_PTR], SETUP_SEG*16+CMDLINE
    mov [fs:CODE32_START], edi

    pop ecx                     ; first what the bounce buffer still holds
    lea esi, [ebp+BOUNCE]
    call copy
    jmp load_rest

; ---- the initrd: as high as the kernel takes it, above the kernel
load_initrd:
    mov ecx, [initrd_size]
    jecxz .none
    mov [need], ecx
    mov [left], ecx
    mov eax, [initrd_sector]
    mov [sector], eax
    mov eax, [ceiling]          ; the kernel's end
    mov [floor], eax
    mov dx, SETUP_SEG
    mov fs, dx
    mov eax, [fs:INITRD_ADDR_MAX]
    mov [ceiling], eax
    call place
    mov si, m_initrd_memory
    test eax, eax
    jz die
    mov dx, SETUP_SEG
    mov fs, dx
    mov [fs:RAMDISK_IMAGE], eax
    mov [fs:RAMDISK_SIZE], ecx
    mov edi, eax
    jmp load_rest
.none:
    ret

; load_rest copies what is left of the file to EDI.
load_rest:
    cmp dword [left], 0
    je .done
    call fill
    mov esi, BOUNCE
    call copy
    jmp load_rest
.done:
    ret

; fill reads the next 64 KiB of the file, or what is left of it, to the bounce buffer.
; ECX = the bytes of it that are the file's.
fill:
    mov ecx, [left]
    cmp ecx, BOUNCE_SIZE
    jbe .last
    mov ecx, BOUNCE_SIZE
.last:
    sub [left], ecx
    push ecx
    mov bx, BOUNCE_SEG
    call read
    pop ecx
    ret

; read reads ECX bytes, rounded up to sectors, from [sector] to BX:0 and advances [sector].
read:
    push ecx
    cmp ecx, READ_MAX
    jbe .last
    mov ecx, READ_MAX
.last:
    add ecx, 2047
    shr ecx, 11
    call read_sectors
    add bx, READ_MAX/16
    pop ecx
    sub ecx, READ_MAX
    ja read
    ret

; read_sectors reads CX CD sectors from [sector] to BX:0 and advances [sector].
read_sectors:
    movzx esi, cx
    mov cl, [shift]
    mov eax, [sector]
    add [sector], esi
    shl si, cl
    xor edx, edx
    shld edx, eax, cl
    shl eax, cl
    mov bp, TRIES
.try:
    mov [dap.count], si         ; each time: a BIOS that fails writes what it did here
    mov [dap.segment], bx
    mov [dap.lba], eax
    mov [dap.lba+4], edx
    pushad
    push es
    mov si, dap
    mov dl, [drive]
    mov ah, 0x42                ; EDD extended read
    int 0x13
    mov [status], ah
    pop es
    popad                       ; keeps the carry
    jnc .done
    pushad
    push es
    xor ax, ax                  ; reset the drive
    mov dl, [drive]
    int 0x13
    pop es
    popad
    dec bp
    jnz .try
    mov si, m_read
    call puts
    mov al, [status]
    aam 16                      ; AH, AL = its two hexadecimal digits
    push ax
    mov al, ah
    call put_digit
    pop ax
    call put_digit
    mov si, m_end
    jmp die
.done:
    ret

put_digit:
    cmp al, 10
    sbb al, 0x69                ; 0-9, A-F the short way
    das
    jmp putc

; copy copies ECX bytes from linear ESI to linear EDI, exactly, and advances both. Real mode
; reaches above 1 MiB once a segment's limit was set in protected mode; the BIOS may have
; taken that back since the last time.
copy:
    cli
    push ds
    push es
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp short .protected
.protected:
    mov bx, 8
    mov ds, bx
    mov es, bx
    and al, 0xfe
    mov cr0, eax
    jmp short .real
.real:
    mov ebx, ecx
    shr ecx, 2
    a32 rep movsd
    mov ecx, ebx
    and ecx, 3
    a32 rep movsb
    pop es
    pop ds
    sti
    ret

; place finds the highest page-aligned EAX in RAM with floor <= EAX, EAX+need <= ceiling,
; or 0. It keeps ECX.
place:
    push ecx
    xor ebx, ebx
    mov [best], ebx
.next:
    mov eax, 0xe820
    mov edx, 'PAMS'             ; "SMAP"
    mov ecx, 20
    mov di, range
    int 0x15
    jc .end
    cmp eax, 'PAMS'
    jne .end
    cmp dword [range.type], 1   ; RAM
    jne .skip
    cmp dword [range.base+4], 0
    jne .skip
    mov eax, [range.base]
    mov edx, eax
    add edx, [range.length]     ; EDX = the range's end
    jc .above
    cmp dword [range.length+4], 0
    jne .above
    cmp edx, [ceiling]
    jbe .below
.above:
    mov edx, [ceiling]
.below:
    cmp eax, [floor]
    jae .start
    mov eax, [floor]
.start:
    sub edx, [need]
    jb .skip
    and edx, 0xfffff000
    cmp edx, eax
    jb .skip
    cmp edx, [best]
    jbe .skip
    mov [best], edx
.skip:
    test ebx, ebx
    jnz .next
.end:
    mov eax, [best]
    pop ecx
    ret

; enable_a20 lets address line 20 through: by the BIOS, then by port 92.
enable_a20:
    call a20
    jnz .on
    mov ax, 0x2401
    int 0x15
    call a20
    jnz .on
    in al, 0x92
    or al, 2
    and al, 0xfe                ; bit 0 would reset the machine
    out 0x92, al
    call a20
    mov si, m_a20
    jz die
.on:
    ret

; a20 clears ZF if A20 is on: then FFFF:x+10 is 1 MiB above x, else it is x. It asks often,
; as the two may be equal by chance, and as the line may need time.
a20:
    mov ax, 0xffff
    mov fs, ax
    mov cx, ax
.again:
    inc word [probe]
    mov ax, [probe]
    cmp ax, [fs:probe+16]
    loope .again
    ret

; die prints the string at SI, the last word, and stops.
die:
    xor ax, ax
    mov ds, ax
    call puts
.halt:
    hlt
    jmp .halt

%include "console.asm"

m_hello         db 13, 10, 'isopress: loading Linux', 0
m_go            db ', starting', 13, 10, 0
m_low           db ': too little low memory', 13, 10, 0
m_a20           db ': cannot enable A20', 13, 10, 0
m_kernel        db ': bad kernel', 13, 10, 0
m_old           db ': kernel too old', 13, 10, 0
m_cmdline       db ': command line too long for the kernel', 13, 10, 0
m_kernel_memory db ': not enough memory for the kernel', 13, 10, 0
m_initrd_memory db ': not enough memory for the initrd', 13, 10, 0
m_read          db ': read error ', 0
m_end           db 13, 10, 0

align 8, db 0
gdt     dq 0
        dw 0xffff, 0, 0x9200, 0x00cf    ; data, base 0, limit 4 GiB
gdtr    dw gdtr-gdt-1
        dd gdt
align 4, db 0
dap     db 16, 0                ; disk address packet
.count  dw 0
        dw 0
.segment dw 0
.lba    dq 0
range   times 20 db 0           ; one of E820's
.base   equ range
.length equ range+8
.type   equ range+16
sector  dd 0                    ; the next to read
left    dd 0                    ; bytes of the file not read yet
floor   dd 0
ceiling dd 0
need    dd 0
best    dd 0
cmdline_length dw 0
probe   dw 0
drive   db 0
shift   db 0
status  db 0

    times 2048-($-$$) db 0
