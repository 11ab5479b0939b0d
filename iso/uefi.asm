; uefi.asm: the UEFI loader, the head of a unified kernel image (UKI).
;
; The image's writer appends the sections .cmdline (ASCII), .initrd (may be missing) and .linux
; to this PE file; the firmware loads them all. The stub offers the initrd through LoadFile2,
; loads the kernel from memory with LoadImage, gives it the command line as LoadOptions and
; starts it. Where that fails it says at which step, with which status, and returns it.
; Specifications: UEFI 2.10; PE; Documentation/admin-guide/efi-stub.rst and
; drivers/firmware/efi/libstub of Linux; uapi-group.org's unified kernel image.

bits 64
default rel
org 0

FILE_ALIGN   equ 512
HEADERS      equ 0x400          ; with room for the sections that are appended
TEXT         equ 0x1000         ; addresses relative to the image
DATA         equ 0x2000
RELOC        equ 0x4000
CMDLINE_MAX  equ 2047

; EFI_SYSTEM_TABLE, EFI_BOOT_SERVICES, EFI_LOADED_IMAGE_PROTOCOL and
; EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL, 64-bit offsets
ConOut               equ 0x40
BootServices         equ 0x60
HandleProtocol       equ 0x98
LoadImage            equ 0xc8
StartImage           equ 0xd0
Stall                equ 0xf8
InstallProtocols     equ 0x148
UninstallProtocols   equ 0x150
LoadOptionsSize      equ 0x30
LoadOptions          equ 0x38
ImageBase            equ 0x40
OutputString         equ 0x08

EFI_INVALID_PARAMETER equ 0x8000000000000002
EFI_UNSUPPORTED       equ 0x8000000000000003
EFI_BUFFER_TOO_SMALL  equ 0x8000000000000005
EFI_NOT_FOUND         equ 0x800000000000000e

    dw 'MZ'
    times 0x3c-($-$$) db 0
    dd pe                       ; e_lfanew
pe:
    dd 'PE'
    dw 0x8664                   ; Machine
    dw 3                        ; NumberOfSections
    dd 0, 0, 0                  ; TimeDateStamp, PointerToSymbolTable, NumberOfSymbols
    dw optional_end-optional    ; SizeOfOptionalHeader
    dw 0x20e                    ; Characteristics: executable, no lines, no symbols, large addresses
optional:
    dw 0x20b                    ; PE32+
    db 0, 0                     ; linker version
    dd text_raw                 ; SizeOfCode
    dd data_raw                 ; SizeOfInitializedData
    dd 0                        ; SizeOfUninitializedData
    dd TEXT                     ; AddressOfEntryPoint
    dd TEXT                     ; BaseOfCode
    dq 0                        ; ImageBase
    dd 0x1000                   ; SectionAlignment
    dd FILE_ALIGN               ; FileAlignment
    dw 0, 0                     ; operating system version
    dw 0, 0                     ; image version
    dw 1, 1                     ; subsystem version
    dd 0                        ; Win32VersionValue
    dd RELOC+0x1000             ; SizeOfImage
    dd HEADERS                  ; SizeOfHeaders
    dd 0                        ; CheckSum
    dw 10                       ; Subsystem: EFI application
    dw 0x100                    ; DllCharacteristics: NX compatible
    dq 0, 0, 0, 0               ; stack and heap
    dd 0                        ; LoaderFlags
    dd 6                        ; NumberOfRvaAndSizes
    dq 0, 0, 0, 0, 0
    dd RELOC, 12                ; base relocations: empty, the code has no absolute address
optional_end:
    db '.text', 0, 0, 0
    dd text_size, TEXT, text_raw, HEADERS, 0, 0, 0, 0x60000020
    db '.data', 0, 0, 0
    dd data_size, DATA, data_raw, HEADERS+text_raw, 0, 0, 0, 0xc0000040
    db '.reloc', 0, 0
    dd 12, RELOC, FILE_ALIGN, HEADERS+text_raw+data_raw, 0, 0, 0, 0x42000040
    times HEADERS-($-$$) db 0

; %1 is the step a failure will name, %2 the offset of the boot service to call.
%macro service 2
    lea r14, [%1]
    call [rbx+%2]
    test rax, rax
    jnz fail
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
    sub rsp, 0x68               ; 0x20 for the callee, the 5th argument on; rsp on 16 again
    mov r12, rcx                ; image
    mov r13, rdx                ; system table
    mov rbx, [rdx+BootServices]

    mov rcx, r12
    lea rdx, [guid_loaded_image]
    lea r8, [loaded_image]
    service step_self, HandleProtocol
    mov rsi, [loaded_image]
    mov rdi, [rsi+ImageBase]
    call find_sections
    lea r14, [step_sections]
    mov rax, EFI_NOT_FOUND
    cmp qword [linux.size], 0
    je fail

    cmp qword [initrd.size], 0
    je .kernel
    lea rax, [load_file]
    mov [load_file2], rax
    lea rcx, [initrd_handle]
    lea rdx, [guid_device_path]
    lea r8, [initrd_path]
    lea r9, [guid_load_file2]
    lea rax, [load_file2]
    mov [rsp+0x20], rax
    mov qword [rsp+0x28], 0
    service step_initrd, InstallProtocols

.kernel:
    mov rax, [linux.base]
    mov [kernel_path.start], rax
    add rax, [linux.size]
    mov [kernel_path.end], rax
    xor ecx, ecx                ; not from the boot manager
    mov rdx, r12
    lea r8, [kernel_path]
    mov r9, [linux.base]
    mov rax, [linux.size]
    mov [rsp+0x20], rax
    lea rax, [kernel_handle]
    mov [rsp+0x28], rax
    service step_load, LoadImage

    mov rcx, [kernel_handle]
    lea rdx, [guid_loaded_image]
    lea r8, [loaded_image]
    service step_options, HandleProtocol
    call widen_cmdline          ; EAX = bytes
    mov rsi, [loaded_image]
    mov [rsi+LoadOptionsSize], eax
    lea rax, [options]
    mov [rsi+LoadOptions], rax

    mov rcx, [kernel_handle]
    xor edx, edx
    xor r8d, r8d
    service step_start, StartImage
    ; A kernel that returned did not boot, whatever it says.

; fail: RAX = status, R14 = the step.
fail:
    mov rsi, rax
    call report
    cmp qword [initrd_handle], 0
    je .stall
    mov rcx, [initrd_handle]    ; its function goes away with this image
    lea rdx, [guid_device_path]
    lea r8, [initrd_path]
    lea r9, [guid_load_file2]
    lea rax, [load_file2]
    mov [rsp+0x20], rax
    mov qword [rsp+0x28], 0
    call [rbx+UninstallProtocols]
.stall:
    mov ecx, 10000000           ; µs: the firmware may clear the screen next
    call [rbx+Stall]
    mov rax, rsi
    add rsp, 0x68
    pop r14
    pop r13
    pop r12
    pop rdi
    pop rsi
    pop rbx
    ret

; report prints the step at R14 and the status in RSI.
report:
    sub rsp, 0x28
    lea rdx, [message]
    call print
    mov rdx, r14
    call print
    lea rdx, [digits]           ; 16 of them, the highest first
    mov rax, rsi
    mov ecx, 16
.digit:
    rol rax, 4
    mov r8d, eax
    and r8d, 15
    cmp r8d, 10
    jb .put
    add r8d, 'A'-'0'-10
.put:
    add r8d, '0'
    mov [rdx], r8w
    add rdx, 2
    dec ecx
    jnz .digit
    lea rdx, [failed]
    call print
    add rsp, 0x28
    ret

; print prints the UTF-16 string at RDX.
print:
    sub rsp, 0x28
    mov rcx, [r13+ConOut]
    test rcx, rcx
    jz .done
    call [rcx+OutputString]
.done:
    add rsp, 0x28
    ret

; find_sections fills linux, initrd and cmdline from the section table of the image at RDI.
find_sections:
    mov eax, [rdi+0x3c]
    lea rdx, [rdi+rax]
    movzx ecx, word [rdx+6]     ; NumberOfSections
    movzx eax, word [rdx+20]    ; SizeOfOptionalHeader
    lea rdx, [rdx+rax+24]
.section:
    mov r8d, [rdx+12]           ; VirtualAddress
    add r8, rdi
    mov r9d, [rdx+8]            ; VirtualSize
    lea r10, [linux]
.wanted:
    mov rax, [r10]
    cmp rax, [rdx]
    jne .other
    mov [r10+8], r8
    mov [r10+16], r9
.other:
    add r10, 24
    lea rax, [wanted_end]
    cmp r10, rax
    jb .wanted
    add rdx, 40
    dec ecx
    jnz .section
    ret

; widen_cmdline writes .cmdline to options as UTF-16. EAX = its bytes, the NUL with it.
widen_cmdline:
    mov rsi, [cmdline.base]
    mov rcx, [cmdline.size]
    mov eax, CMDLINE_MAX
    cmp rcx, rax
    cmova rcx, rax
    lea rdi, [options]
    xor eax, eax
    jrcxz .nul
.character:
    lodsb
    stosw
    dec rcx
    jnz .character
.nul:
    xor eax, eax
    stosw
    lea rax, [options]
    sub rdi, rax
    mov eax, edi
    ret

; EFI_STATUS LoadFile(This, FilePath, BOOLEAN BootPolicy, UINTN *BufferSize, VOID *Buffer)
load_file:
    mov rax, EFI_UNSUPPORTED
    test r8b, r8b
    jnz .done
    mov rax, EFI_INVALID_PARAMETER
    test r9, r9
    jz .done
    mov rcx, [initrd.size]
    mov rdx, [rsp+0x28]         ; Buffer
    mov r10, [r9]
    mov [r9], rcx
    mov rax, EFI_BUFFER_TOO_SMALL
    test rdx, rdx
    jz .done
    cmp r10, rcx
    jb .done
    push rsi
    push rdi
    mov rsi, [initrd.base]
    mov rdi, rdx
    cld
    rep movsb
    pop rdi
    pop rsi
    xor eax, eax
.done:
    ret
text_size equ $-text
    align FILE_ALIGN, db 0
text_raw equ $-text

section .d follows=.t vstart=DATA
data:
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
; The vendor media path that the kernel looks for: LINUX_EFI_INITRD_MEDIA_GUID
initrd_path:
    db 4, 3
    dw 20
    dd 0x5568e427
    dw 0x68fc, 0x4f3d
    db 0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68
    db 0x7f, 0xff
    dw 4
    align 8, db 0
; A memory mapped path for the kernel: LoadImage wants one
kernel_path:
    db 1, 3
    dw 24
    dd 2                        ; EfiLoaderData
.start dq 0
.end dq 0
    db 0x7f, 0xff
    dw 4

    align 8, db 0
; The sections, by the eight bytes of their names
linux    db '.linux', 0, 0
.base    dq 0
.size    dq 0
initrd   db '.initrd', 0
.base    dq 0
.size    dq 0
cmdline  db '.cmdline'
.base    dq 0
.size    dq 0
wanted_end:

loaded_image  dq 0
kernel_handle dq 0
initrd_handle dq 0
load_file2    dq 0              ; EFI_LOAD_FILE2_PROTOCOL: its only member

message       dw __utf16__ `\r\nisopress: cannot start Linux: `, 0
step_self     dw __utf16__ `HandleProtocol(loader)`, 0
step_sections dw __utf16__ `no .linux section`, 0
step_initrd   dw __utf16__ `InstallMultipleProtocolInterfaces(initrd)`, 0
step_load     dw __utf16__ `LoadImage(kernel)`, 0
step_options  dw __utf16__ `HandleProtocol(kernel)`, 0
step_start    dw __utf16__ `StartImage(kernel)`, 0
failed        dw __utf16__ `: status 0x`
digits        times 16 dw '0'
              dw __utf16__ `\r\n`, 0
    align 16, db 0
data_init equ $-data
    align FILE_ALIGN, db 0
data_raw equ $-data
; Not in the file: zeroed by the firmware
options   equ data+data_raw
data_size equ data_raw+2*(CMDLINE_MAX+1)

section .r follows=.d vstart=RELOC
    dd TEXT, 12                 ; a block for one page, with
    dw 0, 0                     ; two relocations of type 0: none
    align FILE_ALIGN, db 0
