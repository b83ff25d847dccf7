// EXPORTED marks the functions of a library that Python calls; all others are hidden.
#pragma once
#ifdef _WIN32
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif
