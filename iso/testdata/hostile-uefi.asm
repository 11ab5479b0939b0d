; hostile-uefi.asm: a UEFI application that makes the firmware worse, for the tests of the UEFI stub.
; It is a stub itself: what lies in its section .linux is the unified kernel image that it starts, once
; for each case of `plan`, which the test fills in. Boot services then answer that image, and nobody
; else, as the case says. When it returns, nothing of it may be left.

bits 64
default rel
org 0

HEADERS equ 0x400
TEXT    equ 0x1000              ; addresses relative to the image
DATA    equ 0x2000
CASES   equ 24

; EFI_SYSTEM_TABLE, EFI_BOOT_SERVICES and EFI_LOADED_IMAGE_PROTOCOL
ConOut             equ 0x40
BootServices       equ 0x60
HandleProtocol     equ 0x98
LocateHandle       equ 0xb0
LocateDevicePath   equ 0xb8
LoadImage          equ 0xc8
StartImage         equ 0xd0
InstallProtocols   equ 0x148
UninstallProtocols equ 0x150
ImageBase          equ 0x40
ImageSize          equ 0x48

HOOKS equ 6                     ; services that are hooked

; A case of the plan
struc case
.returns resq 1                 ; the image's status; 0 ends the plan
.size    resq 1                 ; ImageSize that the image is told, or 0
.hooks   resb HOOKS*16          ; a hook for each service
endstruc
struc hook
.call   resd 1                  ; the call that is answered, from 1 on, or 0
.how    resd 1
.status resq 1                  ; the answer
endstruc
EACH equ 1                      ; the later ones, too
DONE equ 2                      ; and it is done all the same

    dw 'MZ'
    times 0x3c-($-$$) db 0
    dd pe
pe:
    db 'PE', 0, 0
    dw 0x8664, 3                ; Machine, NumberOfSections
    dd 0, 0, 0
    dw optional_end-optional
    dw 0x20e
optional:
    dw 0x20b, 0
    dd text_raw, data_raw, 0
    dd TEXT, TEXT               ; AddressOfEntryPoint, BaseOfCode
    dq 0
    dd 0x1000, 0x200            ; SectionAlignment, FileAlignment
    dw 0, 0, 0, 0, 1, 1
    dd 0
    dd RELOC+0x1000, HEADERS
    dd 0
    dw 10, 0x100                ; Subsystem, DllCharacteristics
    dq 0, 0, 0, 0
    dd 0, 6
    dq 0, 0, 0, 0, 0
    dd RELOC, 12
optional_end:
    db '.text', 0, 0, 0
    dd text_size, TEXT, text_raw, HEADERS, 0, 0, 0, 0x60000020
    db '.data', 0, 0, 0
    dd data_raw, DATA, data_raw, HEADERS+text_raw, 0, 0, 0, 0xc0000040
    db '.reloc', 0, 0
    dd 12, RELOC, 512, HEADERS+text_raw+data_raw, 0, 0, 0, 0x42000040
    times HEADERS-($-$$) db 0

; %1 is the text for a failure, %2 the offset of the boot service to call.
%macro service 2
    lea r14, [%1]
    call [rbx+%2]
    test rax, rax
    jnz failed
%endmacro

section .t start=HEADERS vstart=TEXT
text:
; EFI_STATUS entry(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
entry:
    push rbx
    push rsi
    push rdi
    push r12
    push r13
    push r14
    push r15
    sub rsp, 0x40
    mov r12, rcx
    mov r13, rdx
    mov rbx, [rdx+BootServices]
    lea rdx, [guid_loaded_image]
    lea r8, [loaded_image]
    service w_protocol, HandleProtocol
    mov rax, [loaded_image]
    mov rdi, [rax+ImageBase]
    call find_linux
    xor ecx, ecx
.hook:
    lea rax, [answers]
    mov eax, [rax+rcx*4]
    lea rdx, [text]
    add rax, rdx
    lea rdx, [other]
    mov [rdx+rcx*8], rax
    inc ecx
    cmp ecx, HOOKS
    jb .hook
    lea r15, [plan]
.case:
    cmp qword [r15+case.returns], 0
    je done
    lea rdx, [guid_loaded_image]
    call count
    mov [images], rax
    lea rdx, [guid_load_file2]
    call count
    mov [initrds], rax
    lea rdx, [guid_device_path]
    call count
    mov [paths], rax
    xor ecx, ecx
    mov rdx, r12
    lea r8, [linux_path]
    mov r9, [linux.base]
    mov rax, [linux.size]
    mov [rsp+0x20], rax
    lea rax, [handle]
    mov [rsp+0x28], rax
    service w_load, LoadImage
    mov rcx, [handle]
    lea rdx, [guid_loaded_image]
    lea r8, [loaded_image]
    service w_protocol, HandleProtocol
    mov rdx, [loaded_image]
    mov rax, [rdx+ImageBase]
    mov [guest.base], rax
    mov rax, [rdx+ImageSize]
    mov [guest.size], rax
    mov rax, [r15+case.size]
    test rax, rax
    jz .whole
    mov [rdx+ImageSize], rax
.whole:
    lea rsi, [r15+case.hooks]
    lea rdi, [hooks]
    mov ecx, HOOKS*16/8
    cld
    rep movsq
    call swap
    mov rcx, [handle]
    xor edx, edx
    xor r8d, r8d
    call [rbx+StartImage]       ; ends the image, too
    mov rsi, rax
    call swap
    lea r14, [w_returns]
    cmp rsi, [r15+case.returns]
    jne failed
    lea rdx, [guid_loaded_image]
    call count
    lea r14, [w_image]
    cmp rax, [images]
    jne failed
    lea rdx, [guid_load_file2]
    call count
    lea r14, [w_initrd]
    cmp rax, [initrds]
    jne failed
    lea rdx, [guid_device_path]
    call count
    cmp rax, [paths]
    jne failed
    add r15, case_size
    jmp .case

done:
    lea r14, [w_done]
failed:
    mov rcx, [r13+ConOut]
    mov rdx, r14
    call [rcx+8]                ; OutputString
    mov rax, (1 << 63) | 14     ; the firmware may have something else to boot
    add rsp, 0x40
    pop r15
    pop r14
    pop r13
    pop r12
    pop rdi
    pop rsi
    pop rbx
    ret

; find_linux finds the section of the image at RDI.
find_linux:
    mov eax, [rdi+0x3c]
    lea rdx, [rdi+rax]
    movzx eax, word [rdx+20]    ; SizeOfOptionalHeader
    lea rdx, [rdx+rax+24]
    mov rax, '.linux'
.section:
    cmp rax, [rdx]
    je .found
    add rdx, 40
    jmp .section
.found:
    mov eax, [rdx+12]           ; VirtualAddress
    add rax, rdi
    mov [linux.base], rax
    mov [linux_path.start], rax
    mov ecx, [rdx+8]            ; VirtualSize
    mov [linux.size], rcx
    add rax, rcx
    mov [linux_path.end], rax
    ret

; count returns how much room the handles take that have the protocol RDX.
count:
    sub rsp, 0x38
    mov ecx, 2                  ; ByProtocol
    xor r8d, r8d
    lea r9, [size]
    mov qword [size], 0
    mov [rsp+0x20], r8
    call [rbx+LocateHandle]
    mov rax, [size]
    add rsp, 0x38
    ret

; swap exchanges the services for their hooks, and back.
swap:
    xor ecx, ecx
.next:
    lea rdx, [services]
    movzx edx, word [rdx+rcx*2]
    lea r8, [other]
    mov rax, [rbx+rdx]
    xchg rax, [r8+rcx*8]
    mov [rbx+rdx], rax
    inc ecx
    cmp ecx, HOOKS
    jb .next
    ret

; answer is the hook of service %1: the image's own calls are counted, and the one that the case
; names gets its status.
%macro answer 1
answer%1:
    mov rax, [rsp]              ; who calls
    sub rax, [guest.base]
    cmp rax, [guest.size]
    jae .old
    dec dword [hooks+%1*16+hook.call]
    jnz .old
    test dword [hooks+%1*16+hook.how], EACH
    jz .once
    inc dword [hooks+%1*16+hook.call]
.once:
    test dword [hooks+%1*16+hook.how], DONE
    jz .refused
    sub rsp, 0x38
    mov rax, [rsp+0x38+0x28]    ; LoadImage has six arguments
    mov [rsp+0x20], rax
    mov rax, [rsp+0x38+0x30]
    mov [rsp+0x28], rax
    call [other+%1*8]
    add rsp, 0x38
.refused:
    mov rax, [hooks+%1*16+hook.status]
    ret
.old:
    jmp [other+%1*8]
%endmacro
    answer 0
    answer 1
    answer 2
    answer 3
    answer 4
    answer 5
text_size equ $-text
    align 512, db 0
text_raw equ $-text
%if text_raw != 0x600
%error "the test knows where the plan lies"
%endif

section .d follows=.t vstart=DATA
data:
plan times CASES*case_size db 0
    dq 0
; In the order that the test knows
services dw HandleProtocol, LocateDevicePath, LoadImage, StartImage, InstallProtocols, UninstallProtocols
answers  dd answer0-text, answer1-text, answer2-text, answer3-text, answer4-text, answer5-text
other times HOOKS dq 0          ; the hooks, or the services while they are hooked
hooks times HOOKS*16 db 0       ; the case's
guest:                          ; the image of the case
.base dq 0
.size dq 0
linux:
.base dq 0
.size dq 0
loaded_image dq 0
handle dq 0
images  dq 0                    ; before the case, as count has it
initrds dq 0
paths   dq 0
size    dq 0
guid_loaded_image:
    dd 0x5B1B31A1
    dw 0x9562, 0x11d2
    db 0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b
guid_device_path:
    dd 0x09576e91
    dw 0x6d3f, 0x11d2
    db 0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b
guid_load_file2:
    dd 0x4006c0c1
    dw 0xfcb3, 0x403e
    db 0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d
    align 8, db 0
linux_path:                     ; memory mapped
    db 1, 3
    dw 24
    dd 2
.start dq 0
.end   dq 0
    db 0x7f, 0xff
    dw 4
w_protocol dw __utf16__ `\r\nFAILED: HandleProtocol\r\n`, 0
w_load     dw __utf16__ `\r\nFAILED: LoadImage\r\n`, 0
w_returns  dw __utf16__ `\r\nFAILED: the image returned another status\r\n`, 0
w_image    dw __utf16__ `\r\nFAILED: an image is left\r\n`, 0
w_initrd   dw __utf16__ `\r\nFAILED: an initrd is left\r\n`, 0
w_done     dw __utf16__ `\r\nthe plan is done\r\n`, 0
    align 512, db 0
data_raw equ $-data
RELOC equ (DATA+data_raw+0xfff)/0x1000*0x1000

section .r follows=.d vstart=0
    dd TEXT, 12                 ; no relocations
    dw 0, 0
    align 512, db 0
