; kernel.asm: what the boot stubs' tests start in place of Linux. It looks whether it, the initrd
; and the command line are where and what they should be, and says so: by the 16-bit boot protocol
; on a serial port, as an EFI application on the firmware's console.
;
; The test appends the payload and fills in the sizes. Payload and initrd hold (i+1)*PATTERN in
; their i-th 32 bits.

PATTERN  equ 0x9e3779b1
GUARD    equ 0xa5               ; what hostile.asm fills memory with
GUARDS   equ 0x90000            ; where it says what it filled: 'GRDS', then first and end, 0
SETUP    equ 0x1000             ; bytes of the real-mode part
BASE     equ 0x10000            ; where the loader puts it
TEXT     equ 0x800              ; of the PE file, at 0x1000 in memory

%macro offset 1
    times %1-($-$$) db 0
%endmacro

bits 16
org 0
    db 'MZ'
    offset 0x3c
    dd pe
    offset 0x1f1
    db SETUP/512-1              ; setup_sects
    offset 0x1fe
    dw 0xaa55
    jmp short start
    db 'HdrS'
    dw 0x20f                    ; version
    offset 0x211
    db 1                        ; loadflags: LOADED_HIGH
    offset 0x22c
    dd 0x7fffffff               ; initrd_addr_max
    dd 0x200000                 ; kernel_alignment
    db 1, 21                    ; relocatable_kernel, min_alignment
    dw 1                        ; xloadflags: a 64-bit entry point
    dd 2047                     ; cmdline_size
    offset 0x258
    dq 0x1000000                ; pref_address
    dd 0x800000                 ; init_size
    offset 0x270
start:
    jmp start16
    offset 0x280
pe:
    db 'PE', 0, 0
    dw 0x8664, 1                ; Machine, NumberOfSections
    dd 0, 0, 0
    dw pe_end-optional
    dw 0x20e
optional:
    dw 0x20b, 0
    dd SETUP-TEXT, 0, 0
    dd 0x1000+start64-TEXT      ; AddressOfEntryPoint
    dd 0x1000                   ; BaseOfCode
    dq 0                        ; ImageBase
    dd 0x1000, 0x200            ; SectionAlignment, FileAlignment
    dw 0, 0, 0, 0, 1, 1
    dd 0
size_of_image:
    dd 0x2000
    dd 0x400                    ; SizeOfHeaders
    dd 0
    dw 10, 0x100                ; Subsystem, DllCharacteristics
    dq 0, 0, 0, 0
    dd 0, 6
    times 6 dq 0
pe_end:
    db '.text', 0, 0, 0
    dd SETUP-TEXT, 0x1000, SETUP-TEXT, TEXT, 0, 0, 0, 0x60000020

    offset 0x400
start16:                        ; CS = 1020, the others 1000
    mov bx, ss
    cmp bx, BASE/16
    jne halt16
    cmp sp, 0xe000
    jne halt16
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword 8:BASE+start32
halt16:
    hlt
    jmp halt16

gdt dq 0
    dw 0xffff, 0, 0x9a00, 0x00cf
    dw 0xffff, 0, 0x9200, 0x00cf
gdtr dw gdtr-gdt-1
    dd BASE+gdt

bits 32
start32:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, BASE+0xe000
    mov ebp, BASE
    lea esi, [ebp+m_cmdline]
    call puts
    mov esi, [ebp+0x228]        ; cmd_line_ptr
    call puts

    lea ebx, [ebp+m_header]
    cmp byte [ebp+0x210], 0xff  ; type_of_loader
    jne failed
    test byte [ebp+0x211], 0x80 ; CAN_USE_HEAP
    jz failed
    cmp word [ebp+0x224], 0xde00 ; heap_end_ptr
    jne failed
    mov eax, [ebp+initrd_size]
    cmp [ebp+0x21c], eax
    jne failed
    lea ebx, [ebp+m_kernel]
    mov edi, [ebp+0x214]        ; code32_start
    mov ecx, [ebp+payload_size]
    call check
    lea ebx, [ebp+m_initrd]
    mov edi, [ebp+0x218]        ; ramdisk_image
    mov ecx, [ebp+initrd_size]
    call check
    call guards

    lea esi, [ebp+m_verified]
    call puts
    mov eax, [ebp+0x214]
    call hex
    lea esi, [ebp+m_at]
    call puts
    mov eax, [ebp+0x218]
    call hex
halt:
    lea esi, [ebp+m_end]
    call puts
.halt:
    cli
    hlt
    jmp .halt

; check compares ECX bytes at EDI with the pattern.
check:
    xor eax, eax
.next:
    add eax, PATTERN
    cmp ecx, 4
    jb .tail
    cmp [edi], eax
    jne failed
    add edi, 4
    sub ecx, 4
    jmp .next
.tail:
    jecxz .done
.byte:
    cmp [edi], al
    jne failed
    shr eax, 8
    inc edi
    loop .byte
.done:
    ret

; guards looks at what nobody may have written to.
guards:
    lea ebx, [ebp+m_guard]
    mov esi, GUARDS
    cmp dword [esi], 'GRDS'
    jne .done
    add esi, 4
.region:
    mov edi, [esi]
    mov edx, [esi+4]            ; [EDI, EDX)
    add esi, 8
    test edx, edx
    jz .done
.part:
    cmp edi, edx
    jae .region
    mov ecx, edx                ; up to the nearer one of what the loader loaded
    mov eax, [ebp+0x214]
    push dword [ebp+payload_size]
    call .cut
    mov eax, [ebp+0x218]
    push dword [ebp+initrd_size]
    call .cut
    sub ecx, edi
    jbe .part
    push ecx
    and ecx, 3
    mov al, GUARD
    repe scasb
    jne failed
    pop ecx
    shr ecx, 2
    mov eax, GUARD*0x01010101
    repe scasd
    jne failed
    jmp .part
.done:
    ret
; .cut ends ECX at EAX, if that is in [EDI, ECX); where EDI is in [EAX, EAX+size) it skips to its end.
.cut:
    cmp edi, eax
    jae .behind
    cmp ecx, eax
    jbe .cut_done
    mov ecx, eax
    ret 4
.behind:
    add eax, [esp+4]
    cmp edi, eax
    jae .cut_done
    mov edi, eax
    cmp ecx, edi
    jae .cut_done
    mov ecx, edi
.cut_done:
    ret 4

; failed says what is not as it should be: the string at EBX, EDI is where.
failed:
    push edi
    lea esi, [ebp+m_failed]
    call puts
    mov esi, ebx
    call puts
    pop eax
    call hex
    jmp halt

hex:
    mov ecx, 8
.digit:
    rol eax, 4
    push eax
    and al, 15
    cmp al, 10
    sbb al, 0x69
    das
    call putc
    pop eax
    loop .digit
    ret

puts:
    lodsb
    test al, al
    jz .done
    call putc
    jmp puts
.done:
    ret

putc:
    push edx
    push eax
    mov dx, [ebp+port]
    add dx, 5
.wait:
    in al, dx
    test al, 0x20
    jz .wait
    pop eax
    sub dx, 5
    out dx, al
    pop edx
    ret

m_cmdline  db 'command line: ', 0
m_verified db 13, 10, 'verified: kernel at ', 0
m_at       db ', initrd at ', 0
m_failed   db 13, 10, 'FAILED: ', 0
m_header   db 'the header ', 0
m_kernel   db 'the kernel at ', 0
m_initrd   db 'the initrd at ', 0
m_guard    db 'memory at ', 0
m_end      db 13, 10, 0

    offset TEXT
bits 64
default rel
; EFI_STATUS start64(EFI_HANDLE, EFI_SYSTEM_TABLE *)
start64:
    push rbx
    push rsi
    push rdi
    push r12
    push r13
    push r14
    sub rsp, 0x68
    mov r13, rdx
    mov rbx, [rdx+0x60]         ; BootServices
    lea rdx, [guid_loaded_image]
    lea r8, [rsp+0x40]
    call [rbx+0x98]             ; HandleProtocol
    lea r14, [w_protocol]
    test rax, rax
    jnz .failed
    mov rsi, [rsp+0x40]
    lea rdx, [w_cmdline]
    call print
    mov rdx, [rsi+0x38]         ; LoadOptions
    mov eax, [rsi+0x30]
    lea r14, [w_options]
    cmp word [rdx+rax-2], 0
    jne .failed
    call print

    cmp dword [initrd_size], 0
    je .verified
    lea rax, [initrd_path]
    mov [rsp+0x40], rax
    lea rcx, [guid_load_file2]
    lea rdx, [rsp+0x40]
    lea r8, [rsp+0x48]
    call [rbx+0xb8]             ; LocateDevicePath
    lea r14, [w_located]
    test rax, rax
    jnz .failed
    mov rcx, [rsp+0x48]
    lea rdx, [guid_load_file2]
    lea r8, [rsp+0x48]
    call [rbx+0x98]
    test rax, rax
    jnz .failed
    mov rdi, [rsp+0x48]         ; EFI_LOAD_FILE2_PROTOCOL

    lea r14, [w_refused]
    xor edx, edx                ; no FilePath
    call .load
    cmp al, 2                   ; EFI_INVALID_PARAMETER
    jne .failed
    lea rdx, [initrd_path]
    mov r8d, 1                  ; BootPolicy
    call .load_policy
    cmp al, 3                   ; EFI_UNSUPPORTED
    jne .failed
    lea rdx, [initrd_path]
    mov qword [rsp+0x50], 0
    call .load
    cmp al, 5                   ; EFI_BUFFER_TOO_SMALL
    jne .failed
    lea r14, [w_size]
    mov eax, [initrd_size]
    cmp [rsp+0x50], rax
    jne .failed

    xor ecx, ecx                ; AllocateAnyPages
    mov edx, 2                  ; EfiLoaderData
    lea r8, [rax+0xfff]
    shr r8, 12
    lea r9, [rsp+0x58]
    call [rbx+0x28]             ; AllocatePages
    lea r14, [w_memory]
    test rax, rax
    jnz .failed
    lea rdx, [initrd_path]
    call .load_buffer
    lea r14, [w_refused]
    test rax, rax
    jnz .failed
    lea r14, [w_initrd]
    mov rsi, [rsp+0x58]
    mov ecx, [initrd_size]
    xor eax, eax
.check:
    add eax, PATTERN
    cmp ecx, 4
    jb .tail
    cmp [rsi], eax
    jne .failed
    add rsi, 4
    sub ecx, 4
    jmp .check
.tail:
    jrcxz .verified
.byte:
    cmp [rsi], al
    jne .failed
    shr eax, 8
    inc rsi
    loop .byte
.verified:
    lea r14, [w_verified]
.failed:
    lea rdx, [w_line]
    call print
    mov rdx, r14
    call print
    lea rdx, [w_line]
    call print
    mov rax, [efi_status]
    add rsp, 0x68
    pop r14
    pop r13
    pop r12
    pop rdi
    pop rsi
    pop rbx
    ret

; .load calls LoadFile of RDI for the path RDX, with the size and the buffer of the caller's frame.
.load:
    xor r8d, r8d
.load_policy:
    xor eax, eax
    jmp .call
.load_buffer:
    xor r8d, r8d
    mov rax, [rsp+8+0x58]
.call:
    mov rcx, rdi
    lea r9, [rsp+8+0x50]
    sub rsp, 0x28
    mov [rsp+0x20], rax
    call [rdi]
    add rsp, 0x28
    ret

print:
    sub rsp, 0x28
    mov rcx, [r13+0x40]         ; ConOut
    call [rcx+8]
    add rsp, 0x28
    ret

guid_loaded_image:
    dd 0x5B1B31A1
    dw 0x9562, 0x11d2
    db 0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b
guid_load_file2:
    dd 0x4006c0c1
    dw 0xfcb3, 0x403e
    db 0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d
initrd_path:
    db 4, 3
    dw 20
    dd 0x5568e427
    dw 0x68fc, 0x4f3d
    db 0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68
    db 0x7f, 0xff
    dw 4

w_cmdline  dw __utf16__ `\r\ncommand line: `, 0
w_verified dw __utf16__ `verified: initrd and command line`, 0
w_protocol dw __utf16__ `FAILED: HandleProtocol`, 0
w_options  dw __utf16__ `FAILED: the command line has no NUL`, 0
w_located  dw __utf16__ `FAILED: there is no initrd`, 0
w_refused  dw __utf16__ `FAILED: LoadFile2's answer is another`, 0
w_size     dw __utf16__ `FAILED: the initrd's size`, 0
w_memory   dw __utf16__ `FAILED: AllocatePages`, 0
w_initrd   dw __utf16__ `FAILED: the initrd`, 0
w_line     dw __utf16__ `\r\n`, 0

    offset SETUP-32
payload_size dd 0
initrd_size  dd 0
efi_status   dq 0
port         dw 0
    offset SETUP
