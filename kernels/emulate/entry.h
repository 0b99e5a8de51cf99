// The table of a .cu file's kernels: from an array of pointers to arguments, as CUDA's driver takes them, to a call.
#pragma once
#include <type_traits>
#include <utility>

#include "api.h"

template <class T>
constexpr Parameter parameter_of() {
    if constexpr (std::is_pointer_v<T>) {
        using Pointee = std::remove_pointer_t<T>;
        return {std::is_const_v<Pointee> ? 'c' : 'p', int(sizeof(Pointee))};
    } else if constexpr (std::is_floating_point_v<T>) {
        return {'f', int(sizeof(T))};
    } else if constexpr (std::is_integral_v<T>) {
        return {std::is_signed_v<T> ? 'i' : 'u', int(sizeof(T))};
    } else {
        return {'s', int(sizeof(T))};
    }
}

template <class... A>
constexpr Parameter parameters_of[sizeof...(A) + 1] = {parameter_of<A>()..., {}};

template <auto kernel>
struct Entry;

template <class... A, void (*kernel)(A...)>
struct Entry<kernel> {
    template <size_t... I>
    __attribute__((no_sanitize("thread"))) static void spread(void* const* arguments, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
    }
    __attribute__((no_sanitize("thread"))) static void call(void* const* arguments) {
        spread(arguments, std::index_sequence_for<A...>{});
    }
    static constexpr KernelEntry named(const char* name) {
        return {name, call, parameters_of<A...>, int(sizeof...(A))};
    }
};

// Where the linker has put this library. Its zero-initialised data are exactly the kernels' __shared__ variables.
extern "C" {
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char __bss_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
__attribute__((visibility("default"))) Image emulate_image() { return {__ehdr_start, __bss_start, _end}; }
}

#define EMULATE_KERNELS(...)                                                               \
    extern "C" __attribute__((visibility("default"))) const KernelEntry emulate_kernels[]; \
    extern "C" const KernelEntry emulate_kernels[] = {__VA_ARGS__, {nullptr, nullptr, nullptr, 0}};
