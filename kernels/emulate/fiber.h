// Fibers: stacks of their own that hand the processor to one another only when they say so.
//
// On x86-64 a switch saves the six registers that a callee must keep and swaps the stack pointer, some 20 ns for a pair
// of switches; elsewhere it is ucontext's, which also saves the signal mask and takes a system call.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

struct Fiber {
    void* stack_pointer = nullptr;
};

extern "C" void emulate_switch(Fiber* from, Fiber* to);

asm(R"(
.text
.weak emulate_switch
.hidden emulate_switch
.type emulate_switch, @function
emulate_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov (%rsi), %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size emulate_switch, .-emulate_switch
)");

inline void fiber_switch(Fiber& from, Fiber& to) { emulate_switch(&from, &to); }

// A fiber that will begin in `entry`, which never returns, on the stack [base, base + size).
inline void fiber_prepare(Fiber& fiber, void (*entry)(), char* base, size_t size) {
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(base + size) & ~uintptr_t(63));
    *--top = nullptr;  // entry's return address; leaves the stack aligned as a call does
    *--top = reinterpret_cast<void*>(entry);
    for (int callee_saved = 0; callee_saved < 6; callee_saved++) *--top = nullptr;
    fiber.stack_pointer = top;
}

#else

#include <ucontext.h>

struct Fiber {
    ucontext_t context;
};

inline void fiber_switch(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

inline void fiber_prepare(Fiber& fiber, void (*entry)(), char* base, size_t size) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = base;
    fiber.context.uc_stack.ss_size = size;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
}

#endif
