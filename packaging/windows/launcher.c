/* Rooftop's launcher on Windows: finds its own folder and runs the private Python in it.
 *
 * Built twice: rooftop.exe, for the Start menu, has no console and runs pythonw.exe; rooftop.com runs python.exe in the
 * terminal that it is typed in, where Windows looks for .com before .exe, waits and hands on the exit code. The private
 * Python's ._pth file keeps PYTHONPATH, the registry and other installed Pythons from the app.
 */
#define WIN32_LEAN_AND_MEAN
#include <stdlib.h>
#include <wchar.h>
#include <windows.h>

#define PATH_CHARACTERS 32768 /* the longest path that Windows knows */
#define OLDEST_BUILD 17763    /* Windows 10 1809, the oldest that Qt 6 supports */

#ifdef CONSOLE
#define PYTHON L"python.exe"
#else
#define PYTHON L"pythonw.exe"
#endif

static wchar_t python[PATH_CHARACTERS], command[PATH_CHARACTERS], text[PATH_CHARACTERS + 1024];

static int german(void) { return PRIMARYLANGID(GetUserDefaultUILanguage()) == LANG_GERMAN; }

/* Say a sentence, which may hold one %ls, where the user looks. */
static int say(const wchar_t *english, const wchar_t *in_german, const wchar_t *value) {
    _snwprintf(text, sizeof text / sizeof *text - 1, german() ? in_german : english, value);
#ifdef CONSOLE
    DWORD written;
    HANDLE terminal = GetStdHandle(STD_ERROR_HANDLE);
    wcscat(text, L"\r\n");
    if (!WriteConsoleW(terminal, text, (DWORD)wcslen(text), &written, NULL)) {
        char bytes[4096];
        int count = WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, sizeof bytes, NULL, NULL);
        if (count > 1) WriteFile(terminal, bytes, (DWORD)count - 1, &written, NULL);
    }
#else
    MessageBoxW(NULL, text, L"Rooftop", MB_OK | MB_ICONERROR | MB_SETFOREGROUND);
#endif
    return 1;
}

/* The build number as it is: GetVersionEx tells programs without a manifest an older one. */
static DWORD windows_build(void) {
    typedef LONG(WINAPI * Question)(OSVERSIONINFOW *);
    OSVERSIONINFOW version = {.dwOSVersionInfoSize = sizeof version};
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    Question ask = ntdll ? (Question)(void *)GetProcAddress(ntdll, "RtlGetVersion") : NULL;
    return ask && ask(&version) == 0 ? version.dwBuildNumber : OLDEST_BUILD;
}

/* The arguments as they were given, quotes and all: what follows the program's own name. */
static const wchar_t *given_arguments(void) {
    const wchar_t *rest = GetCommandLineW();
    if (*rest == L'"') {
        rest = wcschr(rest + 1, L'"');
        return rest ? rest + 1 : L"";
    }
    return rest + wcscspn(rest, L" \t");
}

static int run(void) {
    DWORD length = GetModuleFileNameW(NULL, python, PATH_CHARACTERS - 64);
    wchar_t *end = length ? wcsrchr(python, L'\\') : NULL;
    if (!end || length >= PATH_CHARACTERS - 64)
        return say(L"The folder of the program cannot be found; install Rooftop again, into a shorter path.",
                   L"Der Ordner des Programms ist nicht zu finden; installieren Sie Rooftop erneut, in einen k\u00fcrzeren Pfad.",
                   L"");
    wcscpy(end, L"\\python\\" PYTHON);
    if (windows_build() < OLDEST_BUILD)
        return say(L"Rooftop needs Windows 10 version 1809 or newer; please update Windows.",
                   L"Rooftop braucht Windows 10, Version 1809, oder neuer; bitte aktualisieren Sie Windows.", L"");
    const wchar_t *arguments = given_arguments();
    if (wcslen(python) + wcslen(arguments) + 16 > PATH_CHARACTERS)
        return say(L"The arguments are too long.", L"Die Argumente sind zu lang.", L"");
    _snwprintf(command, PATH_CHARACTERS - 1, L"\"%ls\" -m app%ls", python, arguments);

    SetDllDirectoryW(L""); /* libraries of the folder that Rooftop was started in are none of ours */
    SetEnvironmentVariableW(L"QT_PLUGIN_PATH", NULL); /* another Qt's plugins do not fit ours */
    SetEnvironmentVariableW(L"QT_QPA_PLATFORM_PLUGIN_PATH", NULL);
    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
#ifdef CONSOLE
    SetConsoleCtrlHandler(NULL, FALSE);
    startup.dwFlags = STARTF_USESTDHANDLES;
    startup.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    const BOOL inherit = TRUE;
#else
    const BOOL inherit = FALSE;
#endif
    if (!CreateProcessW(python, command, NULL, NULL, inherit, 0, NULL, NULL, &startup, &process)) {
        if (GetLastError() == ERROR_FILE_NOT_FOUND || GetLastError() == ERROR_PATH_NOT_FOUND)
            return say(L"A part of Rooftop is missing (%ls). Install Rooftop again; if your antivirus program removed the "
                       L"file, allow it there.",
                       L"Ein Teil von Rooftop fehlt (%ls). Installieren Sie Rooftop erneut; falls Ihr Virenschutz die Datei "
                       L"entfernt hat, lassen Sie sie dort zu.",
                       python);
        return say(L"Windows does not let Rooftop start %ls. Allow it in your antivirus program, or install Rooftop again.",
                   L"Windows l\u00e4sst Rooftop %ls nicht starten. Lassen Sie es in Ihrem Virenschutz zu, oder installieren Sie "
                   L"Rooftop erneut.",
                   python);
    }
    CloseHandle(process.hThread);
    DWORD code = 0;
#ifdef CONSOLE
    SetConsoleCtrlHandler(NULL, TRUE); /* Ctrl+C is Python's to answer */
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &code);
#else
    AllowSetForegroundWindow(process.dwProcessId);
#endif
    CloseHandle(process.hProcess);
    return (int)code;
}

#ifdef CONSOLE
int main(void) { return run(); }
#else
int WINAPI WinMain(HINSTANCE self, HINSTANCE none, LPSTR line, int show) {
    (void)self, (void)none, (void)line, (void)show;
    return run();
}
#endif
