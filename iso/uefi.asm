; uefi.asm: the UEFI loader, the head of a unified kernel image (UKI).
;
; The image's writer appends the sections .cmdline (ASCII), .initrd (may be missing) and .linux
; to this PE file; the firmware loads them all. The stub offers the initrd through LoadFile2,
; loads the kernel from memory with LoadImage, gives it the command line as LoadOptions and
; starts it. Where that fails it says at which step, with which status and what that means, waits
; for a key, and returns the status. It speaks to the firmware's console only: whether a serial
; line is one is set in the firmware, and what hangs on a port otherwise is not known here. The
; boot manager's watchdog, of five minutes, goes on: everything is in memory already, and a kernel
; that hangs before it takes over should not do so for ever.
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

; EFI_SYSTEM_TABLE, EFI_BOOT_SERVICES, EFI_LOADED_IMAGE_PROTOCOL, EFI_SIMPLE_TEXT_INPUT_PROTOCOL
; and EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL, 64-bit offsets
ConIn                equ 0x30
ConOut               equ 0x40
BootServices         equ 0x60
HandleProtocol       equ 0x98
LocateDevicePath     equ 0xb8
LoadImage            equ 0xc8
StartImage           equ 0xd0
UnloadImage          equ 0xe0
Stall                equ 0xf8
InstallProtocols     equ 0x148
UninstallProtocols   equ 0x150
LoadOptionsSize      equ 0x30
LoadOptions          equ 0x38
ImageBase            equ 0x40
ImageSize            equ 0x48
ConInReset           equ 0x00
ReadKeyStroke        equ 0x08
OutputString         equ 0x08
SetAttribute         equ 0x28

EFI_ERROR             equ 1 << 63
EFI_LOAD_ERROR        equ EFI_ERROR | 1
EFI_INVALID_PARAMETER equ EFI_ERROR | 2
EFI_UNSUPPORTED       equ EFI_ERROR | 3
EFI_BUFFER_TOO_SMALL  equ EFI_ERROR | 5
EFI_NOT_FOUND         equ EFI_ERROR | 14
EFI_ALREADY_STARTED   equ EFI_ERROR | 20

TAKEOVERS equ 16                ; of initrds that others published
KEY_TIME  equ 600               ; tenths of a second for a key

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
    jc fail
    cmp qword [linux.size], 0
    je fail
    lea r14, [step_cmdline]
    mov rax, EFI_BUFFER_TOO_SMALL
    cmp qword [cmdline.size], CMDLINE_MAX
    ja fail

    cmp qword [initrd.size], 0
    je .kernel
    lea rax, [load_file]
    mov [load_file2], rax
    mov esi, TAKEOVERS
.offer:
    lea rcx, [initrd_handle]
    lea rdx, [guid_device_path]
    lea r8, [initrd_path]
    lea r9, [guid_load_file2]
    lea rax, [load_file2]
    mov [rsp+0x20], rax
    mov qword [rsp+0x28], 0
    lea r14, [step_initrd]
    call [rbx+InstallProtocols]
    test rax, rax
    jz .kernel
    mov rdx, EFI_ALREADY_STARTED
    cmp rax, rdx
    jne fail
    dec esi
    jz fail
    ; The boot manager before us, or a UKI around this one, offers an initrd: not this kernel's.
    ; As systemd's stub does, take the place, not the other's protocol.
    lea rax, [initrd_path]
    mov [other_path], rax
    lea rcx, [guid_device_path]
    lea rdx, [other_path]
    lea r8, [other_handle]
    service step_initrd, LocateDevicePath
    mov rcx, [other_handle]
    lea rdx, [guid_device_path]
    lea r8, [other_path]
    service step_initrd, HandleProtocol
    mov rcx, [other_handle]
    lea rdx, [guid_device_path]
    mov r8, [other_path]
    xor r9d, r9d
    service step_initrd, UninstallProtocols
    jmp .offer

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

    xor ecx, ecx
    xchg rcx, [kernel_handle]   ; gone when it returns
    xor edx, edx
    xor r8d, r8d
    lea r14, [step_start]
    call [rbx+StartImage]
    ; A kernel that returned did not boot, whatever it says.
    test rax, rax
    jnz fail
    mov rax, EFI_LOAD_ERROR     ; the firmware may have something else to boot

; fail: RAX = status, R14 = the step.
fail:
    mov rsi, rax
    call report
    cmp qword [initrd_handle], 0
    je .unload
    mov rcx, [initrd_handle]    ; its function goes away with this image
    lea rdx, [guid_device_path]
    lea r8, [initrd_path]
    xor r9d, r9d
    call [rbx+UninstallProtocols] ; not both at once: the place may have been taken from us
    mov rcx, [initrd_handle]
    lea rdx, [guid_load_file2]
    lea r8, [load_file2]
    xor r9d, r9d
    call [rbx+UninstallProtocols]
.unload:
    mov rcx, [kernel_handle]    ; LoadImage leaves it where Secure Boot alone is against it
    test rcx, rcx
    jz .wait
    call [rbx+UnloadImage]
.wait:
    call wait_key               ; the firmware may clear the screen next
    mov rax, rsi
    add rsp, 0x68
    pop r14
    pop r13
    pop r12
    pop rdi
    pop rsi
    pop rbx
    ret

; wait_key waits for a key, at most a minute: there may be nobody, and something else to boot.
wait_key:
    sub rsp, 0x28
    mov edi, KEY_TIME
.key:
    mov rcx, [r13+ConIn]
    test rcx, rcx
    jz .done
    lea rdx, [rsp+0x20]
    call [rcx+ReadKeyStroke]
    test rax, rax
    jz .done
    mov ecx, 100000             ; µs
    call [rbx+Stall]
    dec edi
    jnz .key
.done:
    add rsp, 0x28
    ret

; report prints the step at R14, the status in RSI, and what it means.
report:
    sub rsp, 0x28
    mov rcx, [r13+ConIn]
    test rcx, rcx
    jz .out
    xor edx, edx
    call [rcx+ConInReset]       ; a key pressed before it is asked for does not count
.out:
    mov rcx, [r13+ConOut]
    test rcx, rcx
    jz .done
    mov edx, 0x0f               ; white on black
    call [rcx+SetAttribute]
    lea rdx, [m_stop]
    call print
    mov rdx, r14
    call print
    lea rdx, [meanings]
.meaning:
    movzx eax, word [rdx]       ; a status without its highest bit; 0 ends the list
    test eax, eax
    jz .status
    movzx ecx, word [rdx+2]     ; the text, from data on
    add rdx, 4
    bts rax, 63
    cmp rax, rsi
    jne .meaning
    cmp ecx, m_memory-data
    je .means
    lea rdx, [steps_kernel]
    cmp r14, rdx
    jb .status                  ; it says nothing about the kernel
.means:
    lea rdx, [data]
    add rdx, rcx
    call print
.status:
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
    lea rdx, [m_status]
    call print
.done:
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

; find_sections fills linux, initrd and cmdline from the section table of the image at RDI, of
; which RSI is the protocol. CF: one of them does not lie in it; not all firmware looks at that.
find_sections:
    mov eax, [rdi+0x3c]
    lea rdx, [rdi+rax]
    movzx ecx, word [rdx+6]     ; NumberOfSections, of which three are the stub's own
    movzx eax, word [rdx+20]    ; SizeOfOptionalHeader
    lea rdx, [rdx+rax+24]
.section:
    mov r8d, [rdx+12]           ; VirtualAddress
    mov r9d, [rdx+8]            ; VirtualSize
    lea r10, [linux]
.wanted:
    mov rax, [r10]
    cmp rax, [rdx]
    jne .other
    lea rax, [r8+r9]
    cmp [rsi+ImageSize], rax
    jb .done
    add r8, rdi
    mov [r10+8], r8
    mov [r10+16], r9
    jmp .next
.other:
    add r10, 24
    lea rax, [wanted_end]
    cmp r10, rax
    jb .wanted
.next:
    add rdx, 40
    dec ecx
    jnz .section
    clc
.done:
    ret

; widen_cmdline writes .cmdline to options as UTF-16. EAX = its bytes, the NUL with it.
widen_cmdline:
    mov rsi, [cmdline.base]
    mov rcx, [cmdline.size]     ; at most CMDLINE_MAX
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
    test rcx, rcx
    jz .done
    test rdx, rdx
    jz .done
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
other_handle  dq 0
other_path    dq 0
load_file2    dq 0              ; EFI_LOAD_FILE2_PROTOCOL: its only member

%macro meaning 2
    dw %1 & 0xffff, %2-data
%endmacro
meanings:
    meaning 1, m_damaged        ; EFI_LOAD_ERROR
    meaning 2, m_damaged        ; EFI_INVALID_PARAMETER
    meaning 3, m_damaged        ; EFI_UNSUPPORTED
    meaning 9, m_memory         ; EFI_OUT_OF_RESOURCES
    meaning 15, m_secure        ; EFI_ACCESS_DENIED
    meaning 26, m_secure        ; EFI_SECURITY_VIOLATION
    dw 0

m_stop        dw __utf16__ `\r\n\r\nisopress: THE BOOT STOPS HERE: `, 0
step_self     dw __utf16__ `the firmware does not say where the loader lies`, 0
step_sections dw __utf16__ `the loader's file is damaged: write the image again`, 0
step_cmdline  dw __utf16__ `the command line is longer than 2047 bytes`, 0
step_initrd   dw __utf16__ `the firmware does not let the initrd be offered`, 0
step_options  dw __utf16__ `the firmware does not say where the kernel lies`, 0
steps_kernel:                   ; what makes these fail may be the kernel
step_load     dw __utf16__ `the firmware does not load the kernel`, 0
step_start    dw __utf16__ `the kernel gave up`, 0
m_damaged     dw __utf16__ `. It may be damaged: write the image again`, 0
m_memory      dw __utf16__ `. There is too little memory`, 0
m_secure      dw __utf16__ `. Secure Boot is on and the kernel is not signed: turn it off in the firmware's setup`, 0
m_status      dw __utf16__ ` (EFI status 0x`
digits        times 16 dw '0'
              dw __utf16__ `)\r\nisopress: press a key to go back to the firmware\r\n`, 0
    align 16, db 0
data_init equ $-data
    align FILE_ALIGN, db 0
data_raw equ $-data
; Not in the file: zeroed by the firmware
options   equ data+data_raw
data_size equ data_raw+2*(CMDLINE_MAX+1)
%if TEXT+text_raw > DATA || DATA+data_size > RELOC
%error "a section runs into the next one"
%endif

section .r follows=.d vstart=RELOC
    dd TEXT, 12                 ; a block for one page, with
    dw 0, 0                     ; two relocations of type 0: none
    align FILE_ALIGN, db 0
