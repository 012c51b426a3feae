/* Rooftop's launcher on Linux: finds its own folder, checks the system's C library, and becomes the private Python.
 *
 * Linked statically with musl, so that it runs, and can say what is missing, where the app itself cannot: with a C
 * library that is too old, or with another one. What the user's shell says about Python and about Qt's plugins is kept
 * from the app and from the processes that it starts.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef LOADER
#define LOADER "/lib64/ld-linux-x86-64.so.2" /* part of the ABI: the same place on every x86-64 system with glibc */
#endif
#define NEEDED_MAJOR 2
#define NEEDED_MINOR 35
#define PATH_BYTES 4096

extern char **environ;

static int german(void) {
    const char *names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    for (int i = 0; i < 3; i++) {
        const char *value = getenv(names[i]);
        if (value && *value) return strncmp(value, "de", 2) == 0;
    }
    return 0;
}

/* Run a program and wait; whether it could be started and was content. */
static int run(const char *const arguments[]) {
    pid_t child = fork();
    if (child == 0) {
        execvp(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) < 126;
}

/* Say a sentence on stderr and, to those who clicked an icon, in whatever small window the desktop has. */
static int say(const char *english, const char *in_german, ...) {
    char text[2 * PATH_BYTES];
    va_list values;
    va_start(values, in_german);
    vsnprintf(text, sizeof text, german() ? in_german : english, values);
    va_end(values);
    fprintf(stderr, "rooftop: %s\n", text);
    if (isatty(2) || !(getenv("DISPLAY") || getenv("WAYLAND_DISPLAY"))) return 1;
    const char *const zenity[] = {"zenity", "--error", "--no-markup", "--title=Rooftop", "--text", text, NULL};
    const char *const kdialog[] = {"kdialog", "--title", "Rooftop", "--error", text, NULL};
    const char *const notify[] = {"notify-send", "--app-name=Rooftop", "Rooftop", text, NULL};
    const char *const xmessage[] = {"xmessage", "-center", text, NULL};
    if (!run(zenity) && !run(kdialog) && !run(notify)) run(xmessage);
    return 1;
}

/* The system's glibc, asked of its own loader ("... stable release version 2.36."); 0 where there is none. */
static int glibc(int *major, int *minor) {
    int ends[2];
    char text[512] = "";
    if (pipe(ends)) return 0;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(2);
        execl(LOADER, LOADER, "--version", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (size_t have = 0; have < sizeof text - 1;) {
        ssize_t more = read(ends[0], text + have, sizeof text - 1 - have);
        if (more < 0 && errno == EINTR) continue;
        if (more <= 0) break;
        have += more;
    }
    close(ends[0]);
    if (child > 0) waitpid(child, NULL, 0);
    const char *found = strstr(text, " version ");
    return found && sscanf(found, " version %d.%d", major, minor) == 2;
}

static void prepare_environment(void) {
    char **kept = environ;
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "PYTHON", 6) != 0) *kept++ = *entry;
    *kept = NULL;
    unsetenv("QT_PLUGIN_PATH"); /* another Qt's plugins do not fit ours */
    unsetenv("QT_QPA_PLATFORM_PLUGIN_PATH");
    setenv("PYTHONNOUSERSITE", "1", 1);
    setenv("PYTHONSAFEPATH", "1", 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1); /* nothing is written where the app is installed */
    setenv("RESOURCE_NAME", "rooftop", 0);     /* the window's name for the desktop, see rooftop.desktop */
}

int main(int count, char **given) {
    char root[PATH_BYTES], python[PATH_BYTES + 32];
    ssize_t length = readlink("/proc/self/exe", root, sizeof root - 1);
    if (length < 0)
        return say("The folder of the program cannot be found because /proc is not there; mount it and try again.",
                   "Der Ordner des Programms ist nicht zu finden, weil /proc fehlt; binden Sie es ein und versuchen Sie es erneut.");
    root[length] = '\0';
    *strrchr(root, '/') = '\0';
    snprintf(python, sizeof python, "%s/python/bin/python3.11", root);

    int major = 0, minor = 0;
    if (!glibc(&major, &minor))
        return say("This system's C library is too old or not glibc; Rooftop needs glibc %d.%d or newer, as in Ubuntu 22.04, "
                   "Debian 12 or Fedora 36: please update the system.",
                   "Die C-Bibliothek dieses Systems ist zu alt oder nicht glibc; Rooftop braucht glibc %d.%d oder neuer, wie in "
                   "Ubuntu 22.04, Debian 12 oder Fedora 36: Bitte aktualisieren Sie das System.",
                   NEEDED_MAJOR, NEEDED_MINOR);
    if (major < NEEDED_MAJOR || (major == NEEDED_MAJOR && minor < NEEDED_MINOR))
        return say("This system has glibc %d.%d; Rooftop needs %d.%d or newer, as in Ubuntu 22.04, Debian 12 or Fedora 36: "
                   "please update the system.",
                   "Dieses System hat glibc %d.%d; Rooftop braucht %d.%d oder neuer, wie in Ubuntu 22.04, Debian 12 oder "
                   "Fedora 36: Bitte aktualisieren Sie das System.",
                   major, minor, NEEDED_MAJOR, NEEDED_MINOR);

    char **arguments = calloc(count + 3, sizeof *arguments);
    if (!arguments) return say("There is no memory left; close other programs.", "Der Speicher ist voll; schließen Sie andere Programme.");
    arguments[0] = python;
    arguments[1] = "-m";
    arguments[2] = "app";
    for (int i = 1; i < count; i++) arguments[i + 2] = given[i];
    prepare_environment();
    execv(python, arguments);
    if (errno == EACCES)
        return say("%s may not be run: move Rooftop's folder to a drive that allows programs, such as your home folder.",
                   "%s darf nicht ausgeführt werden: Verschieben Sie den Ordner von Rooftop auf ein Laufwerk, das Programme "
                   "erlaubt, etwa Ihren persönlichen Ordner.",
                   python);
    return say("Rooftop's folder is not complete (%s: %s): install or unpack it again.",
               "Der Ordner von Rooftop ist nicht vollständig (%s: %s): Installieren oder entpacken Sie ihn erneut.", python,
               strerror(errno));
}
