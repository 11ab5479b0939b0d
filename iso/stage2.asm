; stage2.asm: loads Linux on a BIOS, from CD and from disk. 2048 bytes, one CD sector.
;
; El Torito (no emulation) loads it to 0:7C00 and enters at the start; mbr.asm does the same
; and enters at entry_disk. Kernel, initrd and command line are no files here but sectors,
; which the image's writer puts into the parameter block.
;
; Memory while it runs:
;   00600-05000  what the BIOS says of the memory (see load_map)
;   07C00-08400  this code, the stack below it
;   10000-1E000  the kernel's real-mode part, its heap and stack
;   1E000-1E800  the command line
;   20000-30000  bounce buffer: the BIOS reads to low memory only
;   the kernel where it prefers to lie, the initrd as high as it may: in RAM the BIOS reports
; Linux's side of it: Documentation/arch/x86/boot.rst, "The Linux/x86 Boot Protocol".

bits 16
cpu 386
org 0x7c00

MAP         equ 0x600           ; entries of 12 bytes: first, end, whether it is RAM
MAP_LAST    equ 0x5000
SETUP_SEG   equ 0x1000
SETUP_MAX   equ 64              ; sectors of the real-mode part, less the boot sector
CMDLINE     equ 0xe000          ; in SETUP_SEG; also the end of the kernel's heap and stack
CMDLINE_MAX equ 2047            ; as the image's writer has it
CMDLINE_SEG equ SETUP_SEG+CMDLINE/16
BOUNCE_SEG  equ 0x2000
BOUNCE      equ BOUNCE_SEG*16
BOUNCE_SIZE equ 0x10000
LOW_KIB     equ (BOUNCE+BOUNCE_SIZE)/1024
REQUEST     equ 16              ; CD sectors: some BIOSes take no more than 127 of 512 bytes
TRIES       equ 8
PAGE        equ 0x1000
TOP         equ 0x100000000-PAGE ; no address beyond it is used

EBDA        equ 0x40e           ; segment of the BIOS's extended data area, or 0

; Fields of the kernel's setup header.
SETUP_SECTS      equ 0x1f1
HEADER           equ 0x202
VERSION          equ 0x206
TYPE_OF_LOADER   equ 0x210
LOADFLAGS        equ 0x211
CODE32_START     equ 0x214
RAMDISK_IMAGE    equ 0x218
RAMDISK_SIZE     equ 0x21c
HEAP_END_PTR     equ 0x224
CMD_LINE_PTR     equ 0x228
INITRD_ADDR_MAX  equ 0x22c
KERNEL_ALIGNMENT equ 0x230
RELOCATABLE      equ 0x234
CMDLINE_SIZE     equ 0x238
PREF_ADDRESS     equ 0x258
INIT_SIZE        equ 0x260
VERSION_MIN      equ 0x20a      ; the first with pref_address and init_size

start:
    mov bl, 1                   ; CD: sectors of 2048 bytes
    jmp short enter
entry_disk:
    mov bl, 4                   ; disk: sectors of 512 bytes
enter:
    jmp 0:main                  ; some BIOSes come as 07C0:0000
%if entry_disk-start != 4
%error "mbr.asm jumps to offset 4"
%endif

    times 60-($-$$) db 0
    db 'isop'                   ; by this mbr.asm knows that it read the right sectors
; The parameter block: sectors are of 2048 bytes, sizes in bytes.
kernel_sector   dd 0
kernel_size     dd 0
initrd_sector   dd 0
initrd_size     dd 0            ; 0: none
cmdline_sector  dd 0

main:
    cli
    xor ax, ax
    mov ss, ax
    mov sp, start
    call settle
    mov [drive], dl
    mov [ratio], bl
    call serial_init
    mov si, m_hello
    call puts
    int 0x12                    ; KiB of low memory
    call settle
    mov si, m_low
    cmp ax, LOW_KIB
    jb die
    mov ax, [EBDA]
    dec ax                      ; none is 0
    cmp ax, (BOUNCE+BOUNCE_SIZE)/16-1
    jb die
    call enable_a20
    call load_map
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

; ---- the command line, NUL and all
load_cmdline:
    mov eax, [cmdline_sector]
    mov [sector], eax
    mov ecx, 2048
    mov bx, CMDLINE_SEG
    jmp read

; One word for all of it: the image's writer takes no kernel that is too old, or no bzImage, so
; most often the medium is damaged.
bad_kernel:
    mov si, m_kernel
    jmp die

; ---- the kernel: its real-mode part below, the rest where it prefers to be
load_kernel:
    mov eax, [kernel_sector]
    mov [sector], eax
    mov eax, [kernel_size]
    mov [left], eax
    call fill                   ; ECX = bytes in the bounce buffer
    push BOUNCE_SEG
    pop fs                      ; until the BIOS is called again
    cmp dword [fs:HEADER], 'HdrS'
    jne bad_kernel
    test byte [fs:LOADFLAGS], 1 ; LOADED_HIGH: a bzImage
    jz bad_kernel
    movzx ebp, byte [fs:SETUP_SECTS]
    cmp bp, SETUP_MAX
    ja bad_kernel
    test bp, bp
    jnz .setup_sects
    mov bp, 4                   ; 0 means 4, from before it was a field
.setup_sects:
    inc bp                      ; and the boot sector
    shl ebp, 9                  ; EBP = size of the real-mode part
    sub ecx, ebp
    jbe bad_kernel
    push ecx                    ; bytes behind it in the bounce buffer
    cmp word [fs:VERSION], VERSION_MIN
    jb bad_kernel
    cmp dword [fs:CMDLINE_SIZE], CMDLINE_MAX
    jb bad_kernel

    ; The kernel needs what it unpacks to, and in any case what the file holds.
    mov edi, 0x100000           ; where a kernel that cannot be moved starts
    mov eax, [fs:PREF_ADDRESS]
    cmp byte [fs:RELOCATABLE], 0
    je .fixed
    mov edi, eax
.fixed:
    cmp dword [fs:PREF_ADDRESS+4], 0
    jne bad_kernel
    mov [floor], edi
    sub eax, edi
    add eax, [fs:INIT_SIZE]
    mov edx, [kernel_size]
    sub edx, ebp
    cmp eax, edx
    jae .need
    mov eax, edx
.need:
    call set_need
    mov edx, -PAGE
    lea eax, [edi+eax]
    call place                  ; exactly there
    test eax, eax
    jnz .placed
    mov si, m_kernel_memory
    cmp byte [fs:RELOCATABLE], 0
    je no_memory
    mov edx, [fs:KERNEL_ALIGNMENT]
    neg edx                     ; a power of two
    mov eax, TOP
    call place                  ; or higher up, as far as it fits
    test eax, eax
    jz no_memory
.placed:
    mov di, [map_end]           ; and nothing else there
    push eax
    stosd
    add eax, [need]
    stosd
    stosd                       ; no RAM: not 0
    mov [map_end], di

    mov ecx, ebp
    mov esi, BOUNCE
    mov edi, SETUP_SEG*16
    call copy
    pop edi
    push SETUP_SEG
    pop fs
    mov byte [fs:TYPE_OF_LOADER], 0xff          ; no assigned number
    or byte [fs:LOADFLAGS], 0x80                ; CAN_USE_HEAP
    mov word [fs:HEAP_END_PTR], CMDLINE-0x200
    mov dword [fs:CMD_LINE_PTR], SETUP_SEG*16+CMDLINE
    mov [fs:CODE32_START], edi
    pop ecx                     ; first what the bounce buffer still holds
    call copy                   ; ESI is there
    jmp load_rest

; ---- the initrd: as high as the kernel takes it
load_initrd:
    mov eax, [initrd_size]
    test eax, eax
    jz load_rest.done
    mov [left], eax
    mov si, m_initrd_memory
    call set_need
    mov eax, [initrd_sector]
    mov [sector], eax
    mov dword [floor], 0x100000
    push SETUP_SEG
    pop fs
    mov eax, [fs:INITRD_ADDR_MAX] ; the last byte's
    inc eax
    jnz .max
    dec eax
.max:
    mov edx, -PAGE
    call place
    test eax, eax
    jz no_memory
    mov [fs:RAMDISK_IMAGE], eax
    mov ecx, [left]
    mov [fs:RAMDISK_SIZE], ecx
    mov edi, eax

; load_rest copies what is left of the file to EDI.
load_rest:
    cmp dword [left], 0
    je .done
    call fill
    mov esi, BOUNCE
    call copy
    test byte [left+2], 0x0f    ; a dot each MiB
    jnz load_rest
    mov al, '.'
    call putc
    jmp load_rest
.done:
    ret

; set_need takes EAX bytes for `need`, as whole pages: the kernel counts an initrd's so.
set_need:
    add eax, PAGE-1
    jnc .pages
    mov eax, TOP                ; and that is never there
.pages:
    and eax, -PAGE
    mov [need], eax
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
; No request crosses 64 KiB, if none of 32 KiB would.
read:
    add ecx, 2047
    shr ecx, 11
.next:
    mov byte [tries], TRIES
.try:
    movzx esi, word [request]
    cmp esi, ecx
    jbe .fits
    mov esi, ecx
.fits:
    mov ax, si
    mul word [ratio]
    mov [dap.count], ax         ; each time: a BIOS that fails writes what it did here
    mov [dap.segment], bx
    mov eax, [sector]
    mul dword [ratio]
    mov [dap.lba], eax
    mov [dap.lba+4], edx
    mov ah, 0x42                ; EDD extended read
    call disk
    jc .failed
    add [sector], esi
    mov ax, si
    shl ax, 11-4
    add bx, ax
    sub ecx, esi
    jnz .next
    ret
.failed:
    mov ah, 0                   ; reset the drive
    call disk
    shr word [request], 1       ; and read less at once, as isolinux and GRUB do
    jnz .again
    inc word [request]
.again:
    dec byte [tries]
    jnz .try
    mov si, m_read
    call say
    mov eax, [status-3]
    mov cx, 2
    call put_hex
    mov si, m_sector
    call puts
    mov eax, [sector]
    mov cx, 8
    call put_hex
    mov si, m_end
    jmp stop

; disk calls the BIOS's function AH for the drive. CF is its answer; it keeps every register.
disk:
    pushad
    mov si, dap
    mov dl, [drive]
    push ax
    int 0x13
    call settle
    pop bx
    jnc .done
    cmp bh, 0x42
    stc
    jne .done
    mov [status], ah
.done:
    popad
    ret

; put_hex prints CX hexadecimal digits, the first one of which is EAX's highest.
put_hex:
    rol eax, 4
    push ax
    and al, 15
    cmp al, 10
    sbb al, 0x69                ; 0-9, A-F the short way
    das
    call putc
    pop ax
    loop put_hex
    ret

; no_memory says the string at SI, and how many MiB are needed in one piece.
no_memory:
    call say
    mov eax, [need]
    add eax, 0xfffff
    shr eax, 20
    call put_decimal
    mov si, m_mib
    jmp stop

; put_decimal prints AX.
put_decimal:
    mov cx, 10
    xor dx, dx
    div cx
    push dx
    test ax, ax
    jz .last
    call put_decimal
.last:
    pop ax
    add al, '0'
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

; load_map reads the BIOS's memory map below 4 GiB to MAP, RAM cut to whole pages, the rest
; widened to them.
load_map:
    xor ebx, ebx
    mov di, MAP
.next:
    push di
    mov eax, 0xe820
    mov edx, 'PAMS'             ; "SMAP"
    mov ecx, 20                 ; as Linux asks: extended attributes are wrong in too many BIOSes
    mov di, range
    int 0x15
    call settle
    pop di
    jc .end                     ; some end so
    cmp eax, 'PAMS'
    jne .end
    cmp dword [range.base+4], 0
    jne .skip
    mov eax, [range.base]
    mov edx, [range.length]
    mov ecx, [range.length+4]
    mov esi, edx
    or esi, ecx
    jz .skip                    ; empty
    add edx, eax
    adc ecx, 0
    jz .below
    mov edx, TOP                ; beyond 4 GiB
.below:
    mov ecx, [range.type]
    dec ecx                     ; RAM is 1
    jz .ram
    add edx, PAGE-1
    jnc .page
    mov edx, TOP
    jmp short .page
.ram:
    add eax, PAGE-1
    jc .skip
.page:
    and ax, -PAGE
    stosd
    xchg eax, edx
    and ax, -PAGE
    stosd
    xchg eax, ecx
    stosd
.skip:
    test ebx, ebx
    jz .end
    cmp di, MAP_LAST            ; a map without an end
    jb .next
.end:
    mov [map_end], di
    mov si, m_map
    cmp di, MAP
    je die
    ret

; place finds the highest EAX with floor <= EAX, EAX+need <= EAX that is a multiple of -EDX
; and in RAM all along, whatever else the map has there; 0 if there is none. It keeps all else.
place:
    pushad
    mov [ceiling], eax
    mov [mask], edx
.again:
    xor ebx, ebx                ; the best
    mov di, MAP
.candidate:
    mov eax, [di]
    mov edx, [di+4]
    cmp dword [di+8], 0
    jne .not
    cmp edx, [ceiling]
    jbe .below
    mov edx, [ceiling]
.below:
    cmp eax, [floor]
    jae .above
    mov eax, [floor]
.above:
    sub edx, [need]
    jb .not
    and edx, [mask]
    cmp edx, eax
    jb .not
    cmp edx, ebx
    jbe .not
    mov ebx, edx
.not:
    add di, 12
    cmp di, [map_end]
    jb .candidate
    mov eax, ebx
    test eax, eax
    jz .done
    add ebx, [need]             ; the best is [EAX, EBX)
    mov di, MAP
.other:
    cmp dword [di+8], 0
    je .next
    cmp [di], ebx
    jae .next
    cmp [di+4], eax
    jbe .next
    mov ebx, [di]               ; what is not RAM counts where ranges overlap
    mov [ceiling], ebx
    jmp .again
.next:
    add di, 12
    cmp di, [map_end]
    jb .other
.done:
    mov [esp+28], eax           ; popad's EAX
    popad
    ret

; enable_a20 lets address line 20 through: by the BIOS, by port 92, by the keyboard
; controller. The last comes last because there are machines that hang without one (GRUB).
enable_a20:
    call a20
    jnz .on
    mov ax, 0x2401
    int 0x15
    call settle
    call a20
    jnz .on
    in al, 0x92
    or al, 2
    and al, 0xfe                ; bit 0 would reset the machine
    out 0x92, al
    call a20
    jnz .on
    mov al, 0xd1                ; write the output port
    call keyboard
    mov al, 0xdf                ; A20 on
    call keyboard_data
    mov al, 0xff                ; nothing: UHCI's emulation wants it
    call keyboard
    call a20
    mov si, m_a20
    jz die
.on:
    ret

; keyboard sends AL to the keyboard controller when it is ready, or long enough after.
keyboard_data:
    mov dx, 0x60
    jmp short keyboard.send
keyboard:
    mov dx, 0x64
.send:
    push ax
    xor cx, cx                  ; 65536 times
.wait:
    in al, 0x64
    test al, 2                  ; input buffer full
    loopnz .wait
    pop ax
    out dx, al
    ret

; a20 clears ZF if A20 is on: then FFFF:x+10 is 1 MiB above x, else it is x. It asks often,
; as the two may be equal by chance, and as the line may need time.
a20:
    mov cx, 0xffff
    mov fs, cx
.again:
    inc word [probe]
    out 0x80, al                ; about 1 µs
    mov ax, [probe]
    cmp ax, [fs:probe+16]
    loope .again
    ret

%include "console.asm"

m_hello         db 13, 10, 'isopress: loading Linux', 0
m_go            db ' starting', 13, 10, 0
m_low           db 'too little memory below 640 KiB: turn network boot off', 0
m_a20           db 'A20 stays off: see "Gate A20" in the BIOS setup', 0
m_map           db 'no memory map (E820) from this BIOS: boot by UEFI', 0
m_kernel        db 'the kernel is damaged or too old: write the image again', 0
m_kernel_memory db 'too little memory: the kernel needs ', 0
m_initrd_memory db 'too little memory: the initrd needs ', 0
m_mib           db ' MiB in one piece', 13, 10, 0
m_read          db 'cannot read: write the image again or to another medium. BIOS error ', 0
m_sector        db ', sector ', 0

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
ratio   dd 0                    ; the drive's sectors in a CD's
request dw REQUEST
drive   db 0
    times 2048-($-$$) db 0      ; fails to assemble where the code has grown too long

absolute 0x8400                 ; behind it; of any value before it is written
map_end resw 1
range   resb 64                 ; one of E820's; some BIOSes write more than they are asked for
.base   equ range
.length equ range+8
.type   equ range+16
sector  resd 1                  ; the next to read
left    resd 1                  ; bytes of the file not read yet
floor   resd 1                  ; for place, as the next three
ceiling resd 1
mask    resd 1
need    resd 1                  ; bytes, whole pages
probe   resw 1
        resb 3
status  resb 1                  ; the BIOS's last error
tries   resb 1
