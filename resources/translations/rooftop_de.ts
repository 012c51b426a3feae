<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de" sourcelanguage="en">
    <context>
        <name>Rooftop</name>
        <message>
            <location filename="../../app/__main__.py" />
            <source>Something went wrong inside Rooftop. Your chat is still here, and the log has the details.</source>
            <translation>In Rooftop ist etwas schiefgegangen. Ihr Chat ist noch da, und das Protokoll sagt Näheres.</translation>
        </message>
        <message>
            <location filename="../../app/announcer.py" />
            <source>Stopped: {text}</source>
            <translation>Angehalten: {text}</translation>
        </message>
        <message>
            <location filename="../../app/announcer.py" />
            <source>Reply: {text}</source>
            <translation>Antwort: {text}</translation>
        </message>
        <message>
            <location filename="../../app/application.py" />
            <source>The CPU computes with portable kernels, which are slower.</source>
            <translation>Die CPU rechnet mit portablen Rechenkernen, die langsamer sind.</translation>
        </message>
        <message>
            <location filename="../../app/application.py" />
            <source>“{name}” is not a model: choose a .gguf file, or a folder with config.json and safetensors files.</source>
            <translation>„{name}“ ist kein Modell: Wählen Sie eine .gguf-Datei oder einen Ordner mit config.json und safetensors-Dateien.</translation>
        </message>
        <message>
            <location filename="../../app/application.py" />
            <source>Try again</source>
            <translation>Erneut versuchen</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” is not there any more.</source>
            <translation>„{name}“ ist nicht mehr da.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Attach another file.</source>
            <translation>Hängen Sie eine andere Datei an.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” is not a file.</source>
            <translation>„{name}“ ist keine Datei.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Attach the files in it one by one.</source>
            <translation>Hängen Sie die Dateien darin einzeln an.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” cannot be read ({reason}).</source>
            <translation>„{name}“ lässt sich nicht lesen ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Check the file and its permissions.</source>
            <translation>Prüfen Sie die Datei und ihre Zugriffsrechte.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” is larger than {limit}.</source>
            <translation>„{name}“ ist größer als {limit}.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Attach only the part that matters.</source>
            <translation>Hängen Sie nur den wichtigen Teil an.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” holds no text.</source>
            <translation>„{name}“ enthält keinen Text.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” holds more than {limit} characters.</source>
            <translation>„{name}“ enthält mehr als {limit} Zeichen.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” is not a text file.</source>
            <translation>„{name}“ ist keine Textdatei.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Text, code and PDF files can be attached; save it as one of these.</source>
            <translation>Anhängen lassen sich Text-, Code- und PDF-Dateien; speichern Sie sie als eine davon.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” could not be read in {seconds} seconds.</source>
            <translation>„{name}“ ließ sich nicht in {seconds} Sekunden lesen.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Save the pages that matter as a file of their own.</source>
            <translation>Speichern Sie die wichtigen Seiten als eigene Datei.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” is protected by a password.</source>
            <translation>„{name}“ ist durch ein Passwort geschützt.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Save a copy without one in your PDF viewer and attach that.</source>
            <translation>Speichern Sie in Ihrem PDF-Programm eine Kopie ohne Passwort und hängen Sie diese an.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” holds pictures of pages but no text.</source>
            <translation>„{name}“ enthält Bilder von Seiten, aber keinen Text.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Run it through text recognition (OCR) first.</source>
            <translation>Lassen Sie zuerst eine Texterkennung (OCR) darüberlaufen.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” is a damaged PDF file.</source>
            <translation>„{name}“ ist eine beschädigte PDF-Datei.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Open it in a PDF viewer, save it anew and attach that.</source>
            <translation>Öffnen Sie sie in einem PDF-Programm, speichern Sie sie neu und hängen Sie diese an.</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>You</source>
            <translation>Sie</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>Reply</source>
            <translation>Antwort</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>{path} cannot be written ({reason}).</source>
            <translation>{path} lässt sich nicht schreiben ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>Choose another folder, or make room on its drive.</source>
            <translation>Wählen Sie einen anderen Ordner oder schaffen Sie Platz auf seinem Laufwerk.</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>it holds {what}</source>
            <translation>sie enthält {what}</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>no chats</source>
            <translation>keine Chats</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>chats of a newer version of Rooftop</source>
            <translation>Chats einer neueren Version von Rooftop</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>no list of chats</source>
            <translation>keine Liste von Chats</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>no chats of Rooftop, LM Studio or GPT4All</source>
            <translation>keine Chats von Rooftop, LM Studio oder GPT4All</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>a message that is none</source>
            <translation>eine Nachricht, die keine ist</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>no messages</source>
            <translation>keine Nachrichten</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>it is larger than {limit} MiB</source>
            <translation>sie ist größer als {limit} MiB</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>it is nested too deeply</source>
            <translation>sie ist zu tief verschachtelt</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>it is not JSON</source>
            <translation>sie ist kein JSON</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>{name} cannot be imported: {why}.</source>
            <translation>{name} lässt sich nicht importieren: {why}.</translation>
        </message>
        <message>
            <location filename="../../app/chat_files.py" />
            <source>Choose a file that Rooftop, LM Studio or GPT4All wrote.</source>
            <translation>Wählen Sie eine Datei, die Rooftop, LM Studio oder GPT4All geschrieben hat.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/chat_list.py" />
            <source>%n chats found</source>
            <translation>
                <numerusform>%n Chat gefunden</numerusform>
                <numerusform>%n Chats gefunden</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>pinned</source>
            <translation>angeheftet</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>a reply is being written</source>
            <translation>eine Antwort wird geschrieben</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>Pinned</source>
            <translation>Angeheftet</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>Today</source>
            <translation>Heute</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>Older</source>
            <translation>Älter</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>Yesterday</source>
            <translation>Gestern</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>Previous 7 days</source>
            <translation>Letzte 7 Tage</translation>
        </message>
        <message>
            <location filename="../../app/chat_session.py" />
            <source>The message before these is gone, so they cannot come back.</source>
            <translation>Die Nachricht davor gibt es nicht mehr, deshalb lassen sich diese nicht wiederherstellen.</translation>
        </message>
        <message>
            <location filename="../../app/chat_session.py" />
            <source>A reply is being written in another chat. Wait for its end, or stop it there.</source>
            <translation>In einem anderen Chat wird eine Antwort geschrieben. Warten Sie ihr Ende ab oder halten Sie sie dort an.</translation>
        </message>
        <message>
            <location filename="../../app/chat_session.py" />
            <source>No model is loaded, so nothing can be written.</source>
            <translation>Kein Modell ist geladen, deshalb lässt sich nichts schreiben.</translation>
        </message>
        <message>
            <location filename="../../app/chats.py" />
            <source>{problem} Until then your chats stay in memory.</source>
            <translation>{problem} Bis dahin bleiben Ihre Chats im Arbeitsspeicher.</translation>
        </message>
        <message>
            <location filename="../../app/chats.py" />
            <source>Rooftop ended unexpectedly when it opened your last chat, so it was not opened this time.</source>
            <translation>Rooftop wurde beim Öffnen Ihres letzten Chats unerwartet beendet, deshalb wurde er diesmal nicht geöffnet.</translation>
        </message>
        <message>
            <location filename="../../app/conversions.py" />
            <source>The model cannot be read.</source>
            <translation>Das Modell lässt sich nicht lesen.</translation>
        </message>
        <message>
            <location filename="../../app/conversions.py" />
            <source>The conversion ended unexpectedly.</source>
            <translation>Die Umwandlung ist unerwartet abgebrochen.</translation>
        </message>
        <message>
            <location filename="../../app/conversions.py" />
            <source>Try again: it goes on where it stopped.</source>
            <translation>Versuchen Sie es noch einmal: Es geht dort weiter, wo es anhielt.</translation>
        </message>
        <message>
            <location filename="../../app/engine_client.py" />
            <source>The model is being loaded again; the reply so far is kept.</source>
            <translation>Das Modell wird neu geladen; die bisherige Antwort bleibt erhalten.</translation>
        </message>
        <message>
            <location filename="../../app/engine_client.py" />
            <source>The engine did not stop when asked and was ended.</source>
            <translation>Die Engine hielt auf Anfrage nicht an und wurde beendet.</translation>
        </message>
        <message>
            <location filename="../../app/engine_client.py" />
            <source>Restart it.</source>
            <translation>Starten Sie sie neu.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>Simulated GPU</source>
            <translation>Simulierte GPU</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>Checking the model</source>
            <translation>Modell wird geprüft</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>Loading the dense weights</source>
            <translation>Gemeinsame Gewichte werden geladen</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>Loading the experts</source>
            <translation>Experten werden geladen</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>Measuring how fast this computer is</source>
            <translation>Geschwindigkeit dieses Rechners wird gemessen</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{format}, {number} bits</source>
            <translation>{format}, {number} Bit</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>portable kernels (slower)</source>
            <translation>portable Rechenkerne (langsamer)</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{instructions} kernels</source>
            <translation>{instructions}-Rechenkerne</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>The native library is there but cannot be loaded here. Run make native to build it anew.</source>
            <translation>Die native Bibliothek ist vorhanden, lässt sich hier aber nicht laden. „make native“ baut sie neu.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>No C++ compiler was there when Rooftop was installed. Install one (Linux: sudo apt install g++), then run make setup.</source>
            <translation>Bei der Installation von Rooftop war kein C++-Compiler vorhanden. Installieren Sie einen (Linux: sudo apt install g++) und führen Sie dann „make setup“ aus.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>CPU: {kernels}</source>
            <translation>CPU: {kernels}</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>How the weights are stored, and what computes on the CPU.</source>
            <translation>Wie die Gewichte gespeichert sind und womit die CPU rechnet.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>experts on disk</source>
            <translation>Experten auf dem Laufwerk</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/engine_words.py" />
            <source>VRAM ran out %n times: fewer experts live there than planned.</source>
            <translation>
                <numerusform>Der Grafikspeicher reichte einmal nicht aus: Dort liegen weniger Experten als geplant.</numerusform>
                <numerusform>Der Grafikspeicher reichte %n-mal nicht aus: Dort liegen weniger Experten als geplant.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/engine_words.py" />
            <source>%n experts were exchanged in this reply, {size}.</source>
            <translation>
                <numerusform>%n Experte wurde während dieser Antwort ausgetauscht, {size}.</numerusform>
                <numerusform>%n Experten wurden während dieser Antwort ausgetauscht, {size}.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/engine_words.py" />
            <source>%n parts of experts were exchanged in this reply, {size}.</source>
            <translation>
                <numerusform>%n Teil eines Experten wurde während dieser Antwort ausgetauscht, {size}.</numerusform>
                <numerusform>%n Teile von Experten wurden während dieser Antwort ausgetauscht, {size}.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>The experts in VRAM stay as they are.</source>
            <translation>Die Experten im Grafikspeicher bleiben, wie sie sind.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>The experts in VRAM follow the conversation where that pays.</source>
            <translation>Die Experten im Grafikspeicher folgen dem Gespräch, wo sich das lohnt.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>assumed</source>
            <translation>angenommen</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>measured</source>
            <translation>gemessen</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>cached</source>
            <translation>gemerkt</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{precision}, {size} of memory</source>
            <translation>{precision}, {size} Speicher</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{size}, simulated</source>
            <translation>{size}, simuliert</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>costs {source}, fit error {error} on the CPU</source>
            <translation>Kosten {source}, Abweichung {error} auf der CPU</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>in force: {what}</source>
            <translation>in Kraft: {what}</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{number} tokens, all that this model can take</source>
            <translation>{number} Token, mehr fasst dieses Modell nicht</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{number} tokens</source>
            <translation>{number} Token</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>16 bits (bfloat16)</source>
            <translation>16 Bit (bfloat16)</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{number} bits</source>
            <translation>{number} Bit</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{size} on disk, predicted {speed}</source>
            <translation>{size} auf dem Laufwerk, vorhergesagt {speed}</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>in Settings</source>
            <translation>in den Einstellungen</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>Every expert fits in VRAM and runs on the GPU.</source>
            <translation>Alle Experten passen in den Grafikspeicher und laufen auf der GPU.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>The others wait in RAM: each runs on the CPU or is copied to the GPU, whichever is faster.</source>
            <translation>Die anderen warten im RAM: Jeder läuft auf der CPU oder wird auf die GPU kopiert, je nachdem, was schneller ist.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>The others wait in RAM and are copied to the GPU whenever they are needed.</source>
            <translation>Die anderen warten im RAM und werden auf die GPU kopiert, sobald sie gebraucht werden.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>The others are in RAM and run on the CPU.</source>
            <translation>Die anderen sind im RAM und laufen auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>No expert fits in VRAM.</source>
            <translation>Kein Experte passt in den Grafikspeicher.</translation>
        </message>
        <message>
            <location filename="../../app/engine_words.py" />
            <source>{number} of {total} experts fit in VRAM and run on the GPU.</source>
            <translation>{number} von {total} Experten passen in den Grafikspeicher und laufen auf der GPU.</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Choose another model…</source>
            <translation>Anderes Modell wählen…</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Change VRAM budget…</source>
            <translation>Grafikspeicher-Budget ändern…</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Settings…</source>
            <translation>Einstellungen…</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Keep experts on disk and load</source>
            <translation>Mit Experten auf dem Laufwerk laden</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Restart engine</source>
            <translation>Engine neu starten</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Load again</source>
            <translation>Erneut laden</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Edit</source>
            <translation>Bearbeiten</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Choose another file…</source>
            <translation>Andere Datei wählen…</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Open folder</source>
            <translation>Ordner öffnen</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Enter access token…</source>
            <translation>Zugangstoken eingeben…</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Get another model…</source>
            <translation>Anderes Modell besorgen…</translation>
        </message>
        <message>
            <location filename="../../app/error_actions.py" />
            <source>Copy diagnostics…</source>
            <translation>Diagnose kopieren…</translation>
        </message>
        <message>
            <location filename="../../app/gpt4all_chats.py" />
            <source>a damaged chat of GPT4All</source>
            <translation>einen beschädigten Chat von GPT4All</translation>
        </message>
        <message>
            <location filename="../../app/gpt4all_chats.py" />
            <source>a chat of GPT4All in version {version} of its format, and {first} to {last} can be read</source>
            <translation>einen Chat von GPT4All in Version {version} seines Formats, und lesen lassen sich {first} bis {last}</translation>
        </message>
        <message>
            <location filename="../../app/gpu_component.py" />
            <source>{mirror} does not have {file}.</source>
            <translation>{mirror} hat {file} nicht.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_component.py" />
            <source>Take another.</source>
            <translation>Nehmen Sie einen anderen.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Show</source>
            <translation>Zeigen</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>GPU support is fetched in part: {done} of {total}.</source>
            <translation>Die GPU-Unterstützung ist zum Teil geladen: {done} von {total}.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Resume</source>
            <translation>Fortsetzen</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>{problem} The CPU computes alone.</source>
            <translation>{problem} Die CPU rechnet allein.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Repair</source>
            <translation>Reparieren</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Install</source>
            <translation>Installieren</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Get a newer driver…</source>
            <translation>Neueren Treiber holen…</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Remove GPU support</source>
            <translation>GPU-Unterstützung entfernen</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Remove GPU support from this computer?</source>
            <translation>Die GPU-Unterstützung von diesem Computer entfernen?</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>The CPU computes alone then. {size} become free; it can be installed again.</source>
            <translation>Dann rechnet die CPU allein. {size} werden frei; sie lässt sich wieder installieren.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>Remove</source>
            <translation>Entfernen</translation>
        </message>
        <message>
            <location filename="../../app/gpu_desk.py" />
            <source>GPU support is installed; the model is loaded again with it.</source>
            <translation>Die GPU-Unterstützung ist installiert; das Modell wird mit ihr neu geladen.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_files.py" />
            <source>Another Rooftop is installing GPU support now.</source>
            <translation>Ein anderes Rooftop installiert gerade die GPU-Unterstützung.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_files.py" />
            <source>Wait until it is done.</source>
            <translation>Warten Sie, bis es fertig ist.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_files.py" />
            <source>GPU support needs {needed} on the drive of {folder}, which has {free} free.</source>
            <translation>Die GPU-Unterstützung braucht {needed} auf dem Laufwerk von {folder}, auf dem {free} frei sind.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_files.py" />
            <source>Free some space there, then try again; what has come is kept.</source>
            <translation>Schaffen Sie dort Platz und versuchen Sie es dann noch einmal; was da ist, bleibt.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>{folder} has only {count} of the {all} files that are needed; {file} is missing.</source>
            <translation>{folder} hat nur {count} der {all} Dateien, die gebraucht werden; {file} fehlt.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>Copy it there, or choose another folder.</source>
            <translation>Kopieren Sie sie dorthin, oder wählen Sie einen anderen Ordner.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>{file} is not the file that is meant: its SHA-256 differs.</source>
            <translation>{file} ist nicht die gemeinte Datei: Ihr SHA-256 ist ein anderer.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>Install again; if it happens again, report it.</source>
            <translation>Installieren Sie noch einmal; geschieht es wieder, melden Sie es.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>Copy it anew, or choose another folder.</source>
            <translation>Kopieren Sie sie neu, oder wählen Sie einen anderen Ordner.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>it took too long</source>
            <translation>es dauerte zu lange</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>exit code {code}</source>
            <translation>Exit-Code {code}</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>it is torch {version}, which knows no GPU</source>
            <translation>es ist torch {version}, das keine GPU kennt</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>GPU support was fetched and does not start here: {reason}.</source>
            <translation>Die GPU-Unterstützung wurde geladen und läuft hier nicht an: {reason}.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>The CPU goes on computing alone; copy the diagnostics to report it.</source>
            <translation>Die CPU rechnet weiter allein; kopieren Sie die Diagnose, um es zu melden.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>{host} sends other files than those that are meant.</source>
            <translation>{host} sendet andere Dateien als die gemeinten.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>Retry, or take another mirror.</source>
            <translation>Versuchen Sie es noch einmal, oder nehmen Sie einen anderen Spiegelserver.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>{host} does not have a file that is needed.</source>
            <translation>{host} hat eine Datei nicht, die gebraucht wird.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_install.py" />
            <source>Take another mirror, or none.</source>
            <translation>Nehmen Sie einen anderen Spiegelserver oder keinen.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_look.py" />
            <source>Your {gpu} is too old: it has compute capability {has}, and at least {oldest} is needed.</source>
            <translation>Ihre {gpu} ist zu alt: Sie hat Compute Capability {has}, und mindestens {oldest} wird gebraucht.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_look.py" />
            <source>Your {gpu} cannot be used yet: its driver has version {has}, and CUDA {cuda} needs {oldest} or newer.</source>
            <translation>Ihre {gpu} kann noch nicht genutzt werden: Ihr Treiber hat Version {has}, und CUDA {cuda} braucht {oldest} oder neuer.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_state.py" />
            <source>This Rooftop has no list of GPU files for this system ({platform}), so the CPU computes alone.</source>
            <translation>Dieses Rooftop hat für dieses System ({platform}) keine Liste der GPU-Dateien, daher rechnet die CPU allein.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_state.py" />
            <source>GPU support is made for torch {wanted} on Python {python}, and this is torch {version} on {own}.</source>
            <translation>Die GPU-Unterstützung ist für torch {wanted} mit Python {python} gemacht, und dies ist torch {version} mit {own}.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>Looking at this computer…</source>
            <translation>Dieser Computer wird untersucht…</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>Rooftop runs with a torch that knows GPUs already; there is nothing to install.</source>
            <translation>Rooftop läuft bereits mit einem torch, das GPUs kennt; es gibt nichts zu installieren.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>No NVIDIA GPU was found, so the CPU computes alone.</source>
            <translation>Es wurde keine NVIDIA-GPU gefunden, daher rechnet die CPU allein.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>GPU support is fetched in part.</source>
            <translation>Die GPU-Unterstützung ist zum Teil geladen.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>GPU support is not installed.</source>
            <translation>Die GPU-Unterstützung ist nicht installiert.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>GPU support is damaged.</source>
            <translation>Die GPU-Unterstützung ist beschädigt.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>GPU support is being removed…</source>
            <translation>Die GPU-Unterstützung wird entfernt…</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>GPU support is being installed…</source>
            <translation>Die GPU-Unterstützung wird installiert…</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>GPU support is installed.</source>
            <translation>Die GPU-Unterstützung ist installiert.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>GPU support is installed and takes {size}.</source>
            <translation>Die GPU-Unterstützung ist installiert und belegt {size}.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>Your {gpu} can be used: {size} to download.</source>
            <translation>Ihre {gpu} kann genutzt werden: {size} herunterzuladen.</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>{done} of {total}</source>
            <translation>{done} von {total}</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>{size}/s</source>
            <translation>{size}/s</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>{time} left</source>
            <translation>noch {time}</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>stalled: nothing arrives, still trying</source>
            <translation>stockt: nichts kommt an, neuer Versuch läuft</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>paused</source>
            <translation>angehalten</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>checking the files</source>
            <translation>Dateien werden geprüft</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>unpacking</source>
            <translation>wird entpackt</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>trying it out</source>
            <translation>wird ausprobiert</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>driver {version}</source>
            <translation>Treiber {version}</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>compute capability {number}</source>
            <translation>Compute Capability {number}</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>In force: torch {version}, made for CUDA {cuda}</source>
            <translation>In Kraft: torch {version}, für CUDA {cuda} gebaut</translation>
        </message>
        <message>
            <location filename="../../app/gpu_words.py" />
            <source>PyTorch {torch} for CUDA {cuda} and NVIDIA's libraries for it: {files} files, each held against its SHA-256. {size} are fetched and take {unpacked} on the drive, both at once while they are unpacked. NVIDIA's libraries come under NVIDIA's own licence.</source>
            <translation>PyTorch {torch} für CUDA {cuda} und NVIDIAs Bibliotheken dafür: {files} Dateien, jede wird mit ihrem SHA-256 verglichen. {size} werden geladen und belegen {unpacked} auf dem Laufwerk, beim Entpacken beides zugleich. NVIDIAs Bibliotheken stehen unter NVIDIAs eigener Lizenz.</translation>
        </message>
        <message>
            <location filename="../../app/history.py" />
            <source>Broke off: Rooftop was closed.</source>
            <translation>Abgebrochen: Rooftop wurde geschlossen.</translation>
        </message>
        <message>
            <location filename="../../app/history.py" />
            <source>Write the reply anew.</source>
            <translation>Lassen Sie die Antwort neu schreiben.</translation>
        </message>
        <message>
            <location filename="../../app/history_errors.py" />
            <source>The file of your chats, {path}, is damaged ({reason}).</source>
            <translation>Die Datei Ihrer Chats, {path}, ist beschädigt ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/history_errors.py" />
            <source>Restart Rooftop.</source>
            <translation>Starten Sie Rooftop neu.</translation>
        </message>
        <message>
            <location filename="../../app/history_errors.py" />
            <source>Your chats cannot be saved in {folder} ({reason}).</source>
            <translation>Ihre Chats lassen sich nicht in {folder} speichern ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/history_errors.py" />
            <source>memory</source>
            <translation>Arbeitsspeicher</translation>
        </message>
        <message>
            <location filename="../../app/history_errors.py" />
            <source>Check the folder's permissions and the free space on its drive.</source>
            <translation>Prüfen Sie die Zugriffsrechte des Ordners und den freien Platz auf seinem Laufwerk.</translation>
        </message>
        <message>
            <location filename="../../app/history_errors.py" />
            <source>Your chats in {path} were written by a newer version of Rooftop and are left untouched.</source>
            <translation>Ihre Chats in {path} stammen von einer neueren Fassung von Rooftop und bleiben unberührt.</translation>
        </message>
        <message>
            <location filename="../../app/history_errors.py" />
            <source>Update Rooftop to see them; chats of this session are not kept.</source>
            <translation>Aktualisieren Sie Rooftop, um sie zu sehen; die Chats dieser Sitzung werden nicht behalten.</translation>
        </message>
        <message>
            <location filename="../../app/history_rescue.py" />
            <source>The file of your chats was damaged; nothing of it could be read, and the damaged file is kept as {name}.</source>
            <translation>Die Datei Ihrer Chats war beschädigt; nichts davon ließ sich lesen, und die beschädigte Datei bleibt als {name} erhalten.</translation>
        </message>
        <message>
            <location filename="../../app/history_rescue.py" />
            <source>The file of your chats was damaged; what could be read of it, {number} chats, is in the list, and the damaged file is kept as {name}.</source>
            <translation>Die Datei Ihrer Chats war beschädigt; was sich lesen ließ, {number} Chats, steht in der Liste, und die beschädigte Datei bleibt als {name} erhalten.</translation>
        </message>
        <message>
            <location filename="../../app/in_force.py" />
            <source>in force: they follow</source>
            <translation>in Kraft: sie folgen</translation>
        </message>
        <message>
            <location filename="../../app/in_force.py" />
            <source>in force: they stay</source>
            <translation>in Kraft: sie bleiben</translation>
        </message>
        <message>
            <location filename="../../app/in_force.py" />
            <source>Where it is fastest (Fiddler)</source>
            <translation>Wo es am schnellsten ist (Fiddler)</translation>
        </message>
        <message>
            <location filename="../../app/in_force.py" />
            <source>Always on the GPU, streamed there</source>
            <translation>Immer auf der GPU, dorthin übertragen</translation>
        </message>
        <message>
            <location filename="../../app/in_force.py" />
            <source>Always on the CPU</source>
            <translation>Immer auf der CPU</translation>
        </message>
        <message>
            <location filename="../../app/in_force.py" />
            <source>in force: {left} of {total} are left to others</source>
            <translation>in Kraft: {left} von {total} bleiben anderen</translation>
        </message>
        <message>
            <location filename="../../app/machine_look.py" />
            <source>{size} of RAM</source>
            <translation>{size} RAM</translation>
        </message>
        <message>
            <location filename="../../app/machine_look.py" />
            <source>{processor}, {ram}, no NVIDIA GPU</source>
            <translation>{processor}, {ram}, keine NVIDIA-GPU</translation>
        </message>
        <message>
            <location filename="../../app/machine_look.py" />
            <source>{gpu} with {vram}, {ram}</source>
            <translation>{gpu} mit {vram}, {ram}</translation>
        </message>
        <message>
            <location filename="../../app/model_places.py" />
            <source>comes with Rooftop</source>
            <translation>gehört zu Rooftop</translation>
        </message>
        <message>
            <location filename="../../app/model_places.py" />
            <source>Rooftop's folder</source>
            <translation>Rooftops Ordner</translation>
        </message>
        <message>
            <location filename="../../app/model_places.py" />
            <source>Hugging Face cache</source>
            <translation>Hugging-Face-Cache</translation>
        </message>
        <message>
            <location filename="../../app/model_places.py" />
            <source>your folder</source>
            <translation>Ihr Ordner</translation>
        </message>
        <message>
            <location filename="../../app/model_removal.py" />
            <source>{name} could not be moved to the trash.</source>
            <translation>{name} ließ sich nicht in den Papierkorb legen.</translation>
        </message>
        <message>
            <location filename="../../app/model_removal.py" />
            <source>Delete it for good, or in your file manager.</source>
            <translation>Löschen Sie es endgültig oder in Ihrem Dateimanager.</translation>
        </message>
        <message>
            <location filename="../../app/model_removal.py" />
            <source>{name} could not be deleted ({reason}).</source>
            <translation>{name} ließ sich nicht löschen ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/model_removal.py" />
            <source>Close the programs that use it, and try again.</source>
            <translation>Schließen Sie die Programme, die es verwenden, und versuchen Sie es noch einmal.</translation>
        </message>
        <message>
            <location filename="../../app/model_scan.py" />
            <source>The bundled model is missing.</source>
            <translation>Das mitgelieferte Modell fehlt.</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>The presets could not be read ({reason}).</source>
            <translation>Die Vorgaben ließen sich nicht lesen ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>The presets file was damaged.</source>
            <translation>Die Datei mit den Vorgaben war beschädigt.</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>Only the built-in ones are there.</source>
            <translation>Nur die mitgelieferten sind vorhanden.</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>The last good ones are in use.</source>
            <translation>Die letzten brauchbaren sind in Gebrauch.</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>Choose a file that Rooftop exported.</source>
            <translation>Wählen Sie eine Datei, die Rooftop exportiert hat.</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>it is no JSON object</source>
            <translation>sie ist kein JSON-Objekt</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>{name} cannot be read ({reason}).</source>
            <translation>{name} lässt sich nicht lesen ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>{name} is no preset.</source>
            <translation>{name} ist keine Vorgabe.</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>{name} could not be saved in {folder} ({reason}).</source>
            <translation>{name} ließ sich nicht in {folder} speichern ({reason}).</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/preset_files.py" />
            <source>%n presets could not be read and were left out.</source>
            <translation>
                <numerusform>%n Vorgabe war nicht lesbar und wurde ausgelassen.</numerusform>
                <numerusform>%n Vorgaben waren nicht lesbar und wurden ausgelassen.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>Choose another preset.</source>
            <translation>Wählen Sie eine andere Vorgabe.</translation>
        </message>
        <message>
            <location filename="../../app/preset_files.py" />
            <source>The preset is damaged.</source>
            <translation>Die Vorgabe ist beschädigt.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>The preset's key</source>
            <translation>Der Schlüssel der Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>The preset's name</source>
            <translation>Der Name der Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>The system prompt</source>
            <translation>Der Systemprompt</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>The preset has no sampling parameters.</source>
            <translation>Die Vorgabe hat keine Sampling-Parameter.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Balanced</source>
            <translation>Ausgewogen</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Precise</source>
            <translation>Genau</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Creative</source>
            <translation>Einfallsreich</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Code</source>
            <translation>Code</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>The preset {name} comes with Rooftop and stays as it is.</source>
            <translation>Die Vorgabe {name} gehört zu Rooftop und bleibt, wie sie ist.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Duplicate it, and change the copy.</source>
            <translation>Duplizieren Sie sie und ändern Sie die Kopie.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>There is a preset called {name} already.</source>
            <translation>Es gibt schon eine Vorgabe namens {name}.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Choose another name.</source>
            <translation>Wählen Sie einen anderen Namen.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>There are {count} presets, the most that are kept.</source>
            <translation>Es gibt {count} Vorgaben, mehr werden nicht aufbewahrt.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Delete one that you no longer need.</source>
            <translation>Löschen Sie eine, die Sie nicht mehr brauchen.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>{what} is empty or no text.</source>
            <translation>{what} ist leer oder kein Text.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Write one.</source>
            <translation>Schreiben Sie einen.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>{what} has {count} characters; {most} are the limit.</source>
            <translation>{what} hat {count} Zeichen; höchstens {most} sind möglich.</translation>
        </message>
        <message>
            <location filename="../../app/presets.py" />
            <source>Shorten it.</source>
            <translation>Kürzen Sie ihn.</translation>
        </message>
        <message>
            <location filename="../../app/recovery.py" />
            <source>The GPU stopped working: the model was loaded again and runs on the CPU.</source>
            <translation>Die GPU fiel aus: Das Modell wurde neu geladen und läuft auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/recovery.py" />
            <source>The GPU stopped working and is back: the model was loaded again.</source>
            <translation>Die GPU fiel aus und ist wieder da: Das Modell wurde neu geladen.</translation>
        </message>
        <message>
            <location filename="../../app/rough_fit.py" />
            <source>Not enough room on the drive: {free} free.</source>
            <translation>Zu wenig Platz auf dem Laufwerk: {free} frei.</translation>
        </message>
        <message>
            <location filename="../../app/rough_fit.py" />
            <source>Its weights fit in this PC's memory.</source>
            <translation>Seine Gewichte passen in den Speicher dieses PCs.</translation>
        </message>
        <message>
            <location filename="../../app/rough_fit.py" />
            <source>Larger than the {available} of memory that are free: would run from disk, slowly.</source>
            <translation>Größer als die {available} freier Speicher: liefe vom Laufwerk, langsam.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Restore the default.</source>
            <translation>Stellen Sie die Voreinstellung wieder her.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>VRAM budget</source>
            <translation>VRAM-Budget</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>VRAM for other programs</source>
            <translation>Grafikspeicher für andere Programme</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Context length</source>
            <translation>Kontextlänge</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>KV cache precision</source>
            <translation>Genauigkeit des KV-Caches</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>CPU threads</source>
            <translation>CPU-Threads</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Theme</source>
            <translation>Farbschema</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Language</source>
            <translation>Sprache</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Text size</source>
            <translation>Schriftgröße</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>When a chat outgrows the context</source>
            <translation>Wenn ein Chat über den Kontext hinauswächst</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Graphics card</source>
            <translation>Grafikkarte</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Policy</source>
            <translation>Strategie</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>CPU kernels</source>
            <translation>CPU-Rechenkerne</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>What sends a message</source>
            <translation>Was eine Nachricht sendet</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Model folders</source>
            <translation>Modellordner</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Model</source>
            <translation>Modell</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Downloaded models</source>
            <translation>Heruntergeladene Modelle</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Experts on disk</source>
            <translation>Experten auf der Platte</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Experts in VRAM</source>
            <translation>Experten im Grafikspeicher</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Mirror for GPU support</source>
            <translation>Spiegelserver für die GPU-Unterstützung</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Offer of GPU support</source>
            <translation>Angebot der GPU-Unterstützung</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Open the last chat at start</source>
            <translation>Letzten Chat beim Start öffnen</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Tray</source>
            <translation>Infobereich</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Notice about the tray</source>
            <translation>Hinweis auf den Infobereich</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Updates</source>
            <translation>Neue Versionen</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Last look for updates</source>
            <translation>Letzte Suche nach neuen Versionen</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Update that was waved away</source>
            <translation>Weggeklickte neue Version</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>List of chats</source>
            <translation>Liste der Chats</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Live panel</source>
            <translation>Live-Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Folded parts of the live panel</source>
            <translation>Eingeklappte Teile der Live-Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Size and place of the window</source>
            <translation>Größe und Platz des Fensters</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Widths of the window's parts</source>
            <translation>Breiten der Fensterteile</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The setting “{name}” is not a usable text.</source>
            <translation>Die Einstellung „{name}“ ist kein brauchbarer Text.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>No model is chosen.</source>
            <translation>Es ist kein Modell gewählt.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Open a model.</source>
            <translation>Öffnen Sie ein Modell.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The setting “{name}” cannot be {value}.</source>
            <translation>Die Einstellung „{name}“ kennt {value} nicht.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Choose one of {names}.</source>
            <translation>Wählen Sie eines von {names}.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The setting “{name}” is neither true nor false.</source>
            <translation>Die Einstellung „{name}“ ist weder wahr noch falsch.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The setting “{name}” is no moment.</source>
            <translation>Die Einstellung „{name}“ ist kein Zeitpunkt.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The text size {size} is outside 0.5 to 3.</source>
            <translation>Die Schriftgröße {size} liegt nicht zwischen 0,5 und 3.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>Reset the text size.</source>
            <translation>Setzen Sie die Schriftgröße zurück.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The settings could not be read ({reason})</source>
            <translation>Die Einstellungen ließen sich nicht lesen ({reason})</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The settings file was damaged</source>
            <translation>Die Datei der Einstellungen war beschädigt</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>{problem}, so the defaults are in use.</source>
            <translation>{problem}, deshalb gelten die Voreinstellungen.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>{problem}, so the last good settings are in use.</source>
            <translation>{problem}, deshalb gelten die letzten brauchbaren Einstellungen.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The settings could not be saved in {folder} ({reason}).</source>
            <translation>Die Einstellungen ließen sich nicht in {folder} speichern ({reason}).</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The default is in use for a setting that could not be read: {names}.</source>
            <translation>Für eine Einstellung, die sich nicht lesen ließ, gilt die Voreinstellung: {names}.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The setting “{name}” is {value}, outside {low} to {high}.</source>
            <translation>Die Einstellung „{name}“ ist {value}, nicht {low} bis {high}.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The setting “{name}” is no list of folders.</source>
            <translation>Die Einstellung „{name}“ ist keine Liste von Ordnern.</translation>
        </message>
        <message>
            <location filename="../../app/settings.py" />
            <source>The overflow policy {name} does not exist.</source>
            <translation>Die Einstellung für vollen Kontext kennt {name} nicht.</translation>
        </message>
        <message>
            <location filename="../../app/settings_keeper.py" />
            <source>Settings and presets cannot be kept in {folder} ({reason}); changes last until Rooftop is closed.</source>
            <translation>Einstellungen und Vorlagen können in {folder} nicht gespeichert werden ({reason}); Änderungen gelten, bis Rooftop geschlossen wird.</translation>
        </message>
        <message>
            <location filename="../../app/single_instance.py" />
            <source>Rooftop is already running (process {pid}) but does not answer.</source>
            <translation>Rooftop läuft bereits (Prozess {pid}), antwortet aber nicht.</translation>
        </message>
        <message>
            <location filename="../../app/single_instance.py" />
            <source>Wait for it, or end that process, then start Rooftop again.</source>
            <translation>Warten Sie oder beenden Sie diesen Prozess, und starten Sie Rooftop dann erneut.</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>Settings and presets</source>
            <translation>Einstellungen und Vorgaben</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>Two JSON files and their last good copies.</source>
            <translation>Zwei JSON-Dateien und ihre letzten brauchbaren Kopien.</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>Chats and popularity of experts</source>
            <translation>Chats und Beliebtheit der Experten</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>How often each expert of a model was used, so that the next start knows; chats, where they are kept.</source>
            <translation>Wie oft jeder Experte eines Modells gebraucht wurde, damit der nächste Start es weiß; Chats, wo sie aufbewahrt werden.</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>GPU support</source>
            <translation>GPU-Unterstützung</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>PyTorch for CUDA and NVIDIA's libraries, where you have installed them; the settings remove them.</source>
            <translation>PyTorch für CUDA und NVIDIAs Bibliotheken, falls Sie sie installiert haben; die Einstellungen entfernen sie.</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>Measured costs</source>
            <translation>Gemessene Kosten</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>How fast this machine computes and copies an expert; it can be deleted at any time.</source>
            <translation>Wie schnell dieser Rechner einen Experten rechnet und kopiert; kann jederzeit gelöscht werden.</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>Logs</source>
            <translation>Protokolle</translation>
        </message>
        <message>
            <location filename="../../app/stored.py" />
            <source>What went wrong, for a report of a problem; no text of your chats.</source>
            <translation>Was schiefging, für die Meldung eines Problems; kein Text Ihrer Chats.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>The logs are in {folder}.</source>
            <translation>Die Protokolle liegen in {folder}.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>No log can be written here.</source>
            <translation>Hier lässt sich kein Protokoll schreiben.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>This is all that is copied. Your name, folders and chats are not in it, and nothing is sent: paste it where you report a problem.</source>
            <translation>Das ist alles, was kopiert wird. Ihr Name, Ihre Ordner und Chats sind nicht dabei, und nichts wird gesendet: Fügen Sie es dort ein, wo Sie ein Problem melden.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>Diagnostics</source>
            <translation>Diagnose</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>Rooftop ended unexpectedly last time. Your chats are still here.</source>
            <translation>Rooftop endete beim letzten Mal unerwartet. Ihre Chats sind noch da.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>The engine ended unexpectedly last time. Your chats are still here.</source>
            <translation>Die Engine endete beim letzten Mal unerwartet. Ihre Chats sind noch da.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>Show report</source>
            <translation>Bericht zeigen</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>Dismiss</source>
            <translation>Schließen</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>What is known of the end. It stays on this computer: nothing is sent unless you copy it yourself.</source>
            <translation>Was über das Ende bekannt ist. Es bleibt auf diesem Computer: Nichts wird gesendet, wenn Sie es nicht selbst kopieren.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>Crash report</source>
            <translation>Absturzbericht</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>{model} was not loaded: the last two times everything ended while it was being loaded.</source>
            <translation>{model} wurde nicht geladen: Die letzten beiden Male endete dabei alles.</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>Load anyway</source>
            <translation>Trotzdem laden</translation>
        </message>
        <message>
            <location filename="../../app/support_desk.py" />
            <source>Use the bundled guide</source>
            <translation>Mitgelieferten Guide verwenden</translation>
        </message>
        <message>
            <location filename="../../app/terminal.py" />
            <source>Replies follow the preset {name}.</source>
            <translation>Antworten folgen der Vorgabe {name}.</translation>
        </message>
        <message>
            <location filename="../../app/tray.py" />
            <source>&amp;New chat</source>
            <translation>&amp;Neuer Chat</translation>
        </message>
        <message>
            <location filename="../../app/tray.py" />
            <source>&amp;Quit</source>
            <translation>&amp;Beenden</translation>
        </message>
        <message>
            <location filename="../../app/tray.py" />
            <source>Rooftop goes on in the tray. Quit it from the menu of its icon there.</source>
            <translation>Rooftop läuft im Infobereich weiter. Beenden lässt es sich dort über das Menü seines Symbols.</translation>
        </message>
        <message>
            <location filename="../../app/tray.py" />
            <source>&amp;Hide</source>
            <translation>&amp;Ausblenden</translation>
        </message>
        <message>
            <location filename="../../app/tray.py" />
            <source>&amp;Show</source>
            <translation>An&amp;zeigen</translation>
        </message>
        <message>
            <location filename="../../app/tray.py" />
            <source>This desktop has no tray, or none that programs can use.</source>
            <translation>Diese Arbeitsumgebung hat keinen Infobereich oder keinen, den Programme nutzen können.</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{number} billion</source>
            <translation>{number} Milliarden</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{number} million</source>
            <translation>{number} Millionen</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{number} tokens/s</source>
            <translation>{number} Token/s</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{number} ms</source>
            <translation>{number} ms</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{number} s</source>
            <translation>{number} s</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{minutes} min {seconds} s</source>
            <translation>{minutes} min {seconds} s</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{number} min</source>
            <translation>{number} min</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{hours} h {minutes} min</source>
            <translation>{hours} h {minutes} min</translation>
        </message>
        <message>
            <location filename="../../app/units.py" />
            <source>{number}%</source>
            <translation>{number} %</translation>
        </message>
        <message>
            <location filename="../../app/update_desk.py" />
            <source>Rooftop {version} is there.</source>
            <translation>Rooftop {version} ist da.</translation>
        </message>
        <message>
            <location filename="../../app/update_desk.py" />
            <source>Open its page</source>
            <translation>Seite öffnen</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>{host} answered with error {status}.</source>
            <translation>{host} hat mit Fehler {status} geantwortet.</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>Retry later.</source>
            <translation>Versuchen Sie es später noch einmal.</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>{host} cannot be reached: {reason}.</source>
            <translation>{host} ist nicht erreichbar: {reason}.</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>Check your connection, then retry.</source>
            <translation>Prüfen Sie Ihre Verbindung und versuchen Sie es noch einmal.</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>The list of releases is not on a private connection: {host}.</source>
            <translation>Die Liste der Versionen kommt nicht über eine verschlüsselte Verbindung: {host}.</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>Look for a new version yourself, and tell whoever made this package.</source>
            <translation>Sehen Sie selbst nach einer neuen Version und sagen Sie denen Bescheid, die dieses Paket gemacht haben.</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>What answers where the releases should be listed is no list of them.</source>
            <translation>Was dort antwortet, wo die Versionen aufgelistet sein sollten, ist keine Liste davon.</translation>
        </message>
        <message>
            <location filename="../../app/updates.py" />
            <source>Check that you are online, without a sign-in page in between, then retry.</source>
            <translation>Prüfen Sie, ob Sie online sind und keine Anmeldeseite dazwischen liegt, und versuchen Sie es noch einmal.</translation>
        </message>
        <message>
            <location filename="../../app/verdict.py" />
            <source>The drive that this model is on is not there. Connect it, then look again.</source>
            <translation>Das Laufwerk dieses Modells ist nicht da. Schließen Sie es an und sehen Sie dann noch einmal nach.</translation>
        </message>
        <message>
            <location filename="../../app/verdict.py" />
            <source>Too big for this PC's memory: needs {needed}, you have {available}; runs from disk, slowly, about {speed}.</source>
            <translation>Zu groß für den Speicher dieses PCs: braucht {needed}, vorhanden sind {available}; läuft langsam vom Laufwerk, etwa {speed}.</translation>
        </message>
        <message>
            <location filename="../../app/verdict.py" />
            <source>Runs from disk, as set: about {speed}.</source>
            <translation>Läuft vom Laufwerk, wie eingestellt: etwa {speed}.</translation>
        </message>
        <message>
            <location filename="../../app/verdict.py" />
            <source>Fits: about {speed}, all experts on the CPU.</source>
            <translation>Passt: etwa {speed}, alle Experten auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/verdict.py" />
            <source>Fits: about {speed}, {residents} of {total} experts on your GPU.</source>
            <translation>Passt: etwa {speed}, {residents} von {total} Experten auf Ihrer GPU.</translation>
        </message>
        <message>
            <location filename="../../app/verdict.py" />
            <source>Fits: about {speed}, {residents} of {total} experts on the simulated GPU.</source>
            <translation>Passt: etwa {speed}, {residents} von {total} Experten auf der simulierten GPU.</translation>
        </message>
        <message>
            <location filename="../../app/wheel_index.py" />
            <source>{address} is not the address of a package index.</source>
            <translation>{address} ist nicht die Adresse eines Paketverzeichnisses.</translation>
        </message>
        <message>
            <location filename="../../app/wheel_index.py" />
            <source>Write one that begins with https://, or leave it empty.</source>
            <translation>Schreiben Sie eine, die mit https:// beginnt, oder lassen Sie das Feld leer.</translation>
        </message>
        <message>
            <location filename="../../app/wheel_index.py" />
            <source>{host} does not have {name}.</source>
            <translation>{host} hat {name} nicht.</translation>
        </message>
        <message>
            <location filename="../../app/wheel_index.py" />
            <source>What answers at {host} is not a package index.</source>
            <translation>Was unter {host} antwortet, ist kein Paketverzeichnis.</translation>
        </message>
        <message>
            <location filename="../../app/wheels.py" />
            <source>The installation is paused.</source>
            <translation>Die Installation ist angehalten.</translation>
        </message>
        <message>
            <location filename="../../app/wheels.py" />
            <source>Resume it when you like.</source>
            <translation>Setzen Sie ihn fort, wann Sie möchten.</translation>
        </message>
        <message>
            <location filename="../../app/wheels.py" />
            <source>{file} is damaged, or no wheel that can be taken.</source>
            <translation>{file} ist beschädigt oder kein Wheel, das genommen werden kann.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>About Rooftop</source>
            <translation>Über Rooftop</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>Runs Mixture-of-Experts models larger than your graphics card, by the Fiddler method.</source>
            <translation>Betreibt Mixture-of-Experts-Modelle, die größer sind als Ihre Grafikkarte, nach dem Fiddler-Verfahren.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>&amp;Licences…</source>
            <translation>&amp;Lizenzen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>Licences of everything inside</source>
            <translation>Lizenzen aller Bestandteile</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>&amp;Copy versions</source>
            <translation>Versionen &amp;kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>Copy versions</source>
            <translation>Versionen kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>Licences</source>
            <translation>Lizenzen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>Parts</source>
            <translation>Bestandteile</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>Licence text</source>
            <translation>Lizenztext</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>not named</source>
            <translation>nicht genannt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>{name}: licence {licence}</source>
            <translation>{name}: Lizenz {licence}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>The package has no text of its licence with it.</source>
            <translation>Das Paket bringt keinen Text seiner Lizenz mit.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>Rooftop is free software under the Apache License 2.0, without any warranty.</source>
            <translation>Rooftop ist freie Software unter der Apache-Lizenz 2.0, ohne jede Gewährleistung.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>It uses Qt and PySide6 under the GNU Lesser General Public License, version 3. You may change these libraries and use your own build of them: they are the shared libraries in {folder}, or another PySide6 6.11 installed in their place. Their source is at download.qt.io and code.qt.io.</source>
            <translation>Es verwendet Qt und PySide6 unter der GNU Lesser General Public License, Version 3. Sie dürfen diese Bibliotheken verändern und Ihre eigene Fassung verwenden: Es sind die dynamischen Bibliotheken in {folder}, oder ein anderes PySide6 6.11, das an ihrer Stelle installiert ist. Ihr Quelltext steht auf download.qt.io und code.qt.io.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/about_dialog.py" />
            <source>The font Inter is under the SIL Open Font License.</source>
            <translation>Die Schrift Inter steht unter der SIL Open Font License.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/attachment_chips.py" />
            <source>Show what the model reads of it</source>
            <translation>Anzeigen, was das Modell davon liest</translation>
        </message>
        <message>
            <location filename="../../app/widgets/attachment_chips.py" />
            <source>Remove {name}</source>
            <translation>{name} entfernen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/attachment_chips.py" />
            <source>{tokens} tokens</source>
            <translation>{tokens} Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/attachment_chips.py" />
            <source>Attached: {name}</source>
            <translation>Angehängt: {name}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/attachment_chips.py" />
            <source>{count} characters</source>
            <translation>{count} Zeichen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>No GPU is in use, so there is no VRAM to budget: every expert runs on the CPU.</source>
            <translation>Keine GPU ist in Gebrauch, also gibt es kein VRAM zu verteilen: jeder Experte läuft auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>No model is loaded: the budget can be set, but its effect cannot be previewed.</source>
            <translation>Kein Modell ist geladen: das Budget lässt sich einstellen, aber seine Wirkung nicht zeigen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>Its effect can be previewed once the model is reloaded with this GPU.</source>
            <translation>Die Wirkung lässt sich zeigen, sobald das Modell mit dieser GPU neu geladen ist.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>Does not fit. {reasons}</source>
            <translation>Passt nicht. {reasons}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>Keeps {experts} of {total} experts on the GPU (hit rate {rate} %), predicted {speed} tokens/s, as now.</source>
            <translation>Behält {experts} von {total} Experten auf der GPU (Trefferquote {rate} %), erwartet {speed} Token/s, wie jetzt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>Would keep {experts} of {total} experts on the GPU (hit rate {rate} %), predicted {speed} tokens/s (now {now}).</source>
            <translation>Hielte {experts} von {total} Experten auf der GPU (Trefferquote {rate} %), erwartet {speed} Token/s (jetzt {now}).</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/budget_editor.py" />
            <source>%n experts move in.</source>
            <translation>
                <numerusform>%n Experte zieht ein.</numerusform>
                <numerusform>%n Experten ziehen ein.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/budget_editor.py" />
            <source>%n experts move out.</source>
            <translation>
                <numerusform>%n Experte zieht aus.</numerusform>
                <numerusform>%n Experten ziehen aus.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>&amp;Automatic: what is free, less a reserve</source>
            <translation>&amp;Automatisch: was frei ist, abzüglich einer Reserve</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>Automatic VRAM budget</source>
            <translation>Automatisches VRAM-Budget</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>VRAM budget slider</source>
            <translation>Regler des VRAM-Budgets</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>Preview of the VRAM budget</source>
            <translation>Vorschau des VRAM-Budgets</translation>
        </message>
        <message>
            <location filename="../../app/widgets/budget_editor.py" />
            <source>From {least} without experts to {most}.</source>
            <translation>Von {least} ohne Experten bis {most}.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>There are no chats to delete.</source>
            <translation>Es gibt keine Chats zum Löschen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Delete all chats</source>
            <translation>Alle Chats löschen</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Delete all %n chats?</source>
            <translation>
                <numerusform>Alle %n Chats löschen?</numerusform>
                <numerusform>Alle %n Chats löschen?</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>You can undo this until Rooftop is closed. Then nothing of them is left in its file of chats.</source>
            <translation>Das lässt sich rückgängig machen, bis Rooftop geschlossen wird. Danach ist in der Datei der Chats nichts mehr davon.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>&amp;Delete all</source>
            <translation>Alle &amp;löschen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Quit</source>
            <translation>Beenden</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>%n chats could not be saved. Quit and lose what is new in them?</source>
            <translation>
                <numerusform>Ein Chat konnte nicht gespeichert werden. Beenden und verlieren, was darin neu ist?</numerusform>
                <numerusform>%n Chats konnten nicht gespeichert werden. Beenden und verlieren, was darin neu ist?</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>You can still export your chats, or free some space and try again.</source>
            <translation>Noch können Sie Ihre Chats exportieren, oder Platz schaffen und es noch einmal versuchen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>&amp;Quit without saving</source>
            <translation>Ohne Speichern &amp;beenden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Chat deleted</source>
            <translation>Chat gelöscht</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>%n chats deleted</source>
            <translation>
                <numerusform>%n Chat gelöscht</numerusform>
                <numerusform>%n Chats gelöscht</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Undo</source>
            <translation>Rückgängig</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Saved as {name}</source>
            <translation>Gespeichert als {name}</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>%n chats imported</source>
            <translation>
                <numerusform>%n Chat importiert</numerusform>
                <numerusform>%n Chats importiert</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Rooftop chats</source>
            <translation>Rooftop-Chats</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>There is nothing to export yet.</source>
            <translation>Es gibt noch nichts zu exportieren.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Chat</source>
            <translation>Chat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>All branches, for Rooftop (*.json)</source>
            <translation>Alle Zweige, für Rooftop (*.json)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>As it is shown, to read (*.md)</source>
            <translation>Wie angezeigt, zum Lesen (*.md)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Export</source>
            <translation>Exportieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Import chats of Rooftop, LM Studio or GPT4All</source>
            <translation>Chats von Rooftop, LM Studio oder GPT4All importieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Chats (*.json *.chat)</source>
            <translation>Chats (*.json *.chat)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Chat options</source>
            <translation>Chat-Optionen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Preset</source>
            <translation>Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Prese&amp;t</source>
            <translation>&amp;Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>&amp;All as the preset</source>
            <translation>&amp;Alles wie die Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Save as &amp;preset…</source>
            <translation>Als V&amp;orgabe speichern…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>New chats with {model} begin with this preset</source>
            <translation>Neue Chats mit {model} beginnen mit dieser Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Status</source>
            <translation>Status</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>As the model: {name}</source>
            <translation>Wie das Modell: {name}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>This chat differs from its preset. Saved as a preset, the changes are there for other chats too.</source>
            <translation>Dieser Chat weicht von seiner Vorgabe ab. Als Vorgabe gespeichert, gibt es die Änderungen auch für andere Chats.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Save as preset</source>
            <translation>Als Vorgabe speichern</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Name of the preset</source>
            <translation>Name der Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_options_dialog.py" />
            <source>Saved as {name}.</source>
            <translation>Gespeichert als {name}.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Open link</source>
            <translation>Link öffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Open this address in your web browser?</source>
            <translation>Diese Adresse im Webbrowser öffnen?</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Attach text, code or PDF files</source>
            <translation>Text-, Code- oder PDF-Dateien anhängen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>At most {count} files can be attached; remove some first.</source>
            <translation>Höchstens {count} Dateien lassen sich anhängen; entfernen Sie zuerst einige.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Leave out the oldest messages and send</source>
            <translation>Älteste Nachrichten weglassen und senden</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_pane.py" />
            <source>%n messages deleted</source>
            <translation>
                <numerusform>%n Nachricht gelöscht</numerusform>
                <numerusform>%n Nachrichten gelöscht</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Reading the prompt: {done} of {total} tokens</source>
            <translation>Eingabe wird gelesen: {done} von {total} Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>The model is still loading. Your message is sent as soon as it is ready; Esc takes it back</source>
            <translation>Das Modell lädt noch. Ihre Nachricht wird gesendet, sobald es bereit ist; Esc nimmt sie zurück</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>A reply is being written in another chat. Yours is sent after it; Esc takes it back</source>
            <translation>In einem anderen Chat wird eine Antwort geschrieben. Ihre Nachricht wird danach gesendet; Esc nimmt sie zurück</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Esc stops the reply; you can already write your next message</source>
            <translation>Esc hält an; Sie können schon Ihre nächste Nachricht schreiben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>The model is loading; you can already write</source>
            <translation>Das Modell lädt; Sie können schon schreiben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>No model is loaded: open one with Ctrl+O</source>
            <translation>Kein Modell geladen: Öffnen Sie eines mit Strg+O</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Loading was cancelled.</source>
            <translation>Das Laden wurde abgebrochen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_row.py" />
            <source>Name of the chat</source>
            <translation>Name des Chats</translation>
        </message>
        <message>
            <location filename="../../app/widgets/code_block.py" />
            <source>Copy</source>
            <translation>Kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/code_block.py" />
            <source>Copy this code</source>
            <translation>Diesen Code kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/code_block.py" />
            <source>code</source>
            <translation>Code</translation>
        </message>
        <message>
            <location filename="../../app/widgets/code_block.py" />
            <source>Code, {language}</source>
            <translation>Code, {language}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/code_block.py" />
            <source>Copied</source>
            <translation>Kopiert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Attach files</source>
            <translation>Dateien anhängen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Ctrl+Enter sends, Enter starts a new line</source>
            <translation>Strg+Enter sendet, Enter beginnt eine neue Zeile</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Enter sends, Shift+Enter starts a new line</source>
            <translation>Enter sendet, Umschalt+Enter beginnt eine neue Zeile</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Send (Ctrl+Enter)</source>
            <translation>Senden (Strg+Enter)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Send (Enter)</source>
            <translation>Senden (Enter)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Stop the reply (Esc)</source>
            <translation>Antwort anhalten (Esc)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Waiting for the model; take the message back (Esc)</source>
            <translation>Das Modell lädt noch; Nachricht zurücknehmen (Esc)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Message</source>
            <translation>Nachricht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Ask something</source>
            <translation>Fragen Sie etwas</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>What fills the context</source>
            <translation>Was den Kontext füllt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>{used} of {all} tokens</source>
            <translation>{used} von {all} Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Context: {text}</source>
            <translation>Kontext: {text}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>The reply may not have the room that is kept for it.</source>
            <translation>Die Antwort hat vielleicht nicht den Platz, der für sie freigehalten wird.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>System prompt</source>
            <translation>Systemprompt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Messages</source>
            <translation>Nachrichten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Attached files</source>
            <translation>Angehängte Dateien</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Draft</source>
            <translation>Entwurf</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Chat template</source>
            <translation>Chatvorlage</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Kept for the reply</source>
            <translation>Für die Antwort freigehalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Free</source>
            <translation>Frei</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>What would you like to know?</source>
            <translation>Was möchten Sie wissen?</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>No model is loaded.</source>
            <translation>Kein Modell ist geladen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>Choose a model…</source>
            <translation>Modell wählen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>Ask: {question}</source>
            <translation>Fragen: {question}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>Explain mixture of experts in three sentences.</source>
            <translation>Erkläre Mixture of Experts in drei Sätzen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>Write a Python function that merges two sorted lists.</source>
            <translation>Schreibe eine Python-Funktion, die zwei sortierte Listen zusammenführt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>Give me five names for a rooftop garden.</source>
            <translation>Nenne mir fünf Namen für einen Dachgarten.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>The built-in guide answers questions about this app.
Watch its experts at work in the live panel.</source>
            <translation>Der eingebaute Guide beantwortet Fragen zu diesem Programm, auf Englisch.
Sehen Sie seinen Experten in der Live-Ansicht bei der Arbeit zu.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/empty_state.py" />
            <source>Ask anything, and watch in the live panel where each expert runs.</source>
            <translation>Fragen Sie, was Sie möchten, und sehen Sie in der Live-Ansicht, wo jeder Experte läuft.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>About the experts in VRAM</source>
            <translation>Zu den Experten im VRAM</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>About the expert</source>
            <translation>Zum Experten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>About the layer</source>
            <translation>Zur Schicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>No model is loaded. Load one, and this panel shows where every expert lives and why.</source>
            <translation>Kein Modell ist geladen. Sobald eines geladen ist, zeigt diese Ansicht, wo jeder Experte liegt und warum.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Memory</source>
            <translation>Speicher</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Experts</source>
            <translation>Experten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Layers</source>
            <translation>Schichten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Moved per second</source>
            <translation>Bewegt je Sekunde</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>The last minutes</source>
            <translation>Die letzten Minuten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>last pass / one expert alone</source>
            <translation>letzter Durchlauf / ein Experte allein</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Live panel's content</source>
            <translation>Inhalt der Live-Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Live panel, scrollable</source>
            <translation>Live-Ansicht zum Blättern</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>all {total} on the CPU</source>
            <translation>alle {total} auf der CPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>{number} of {total} on the simulated GPU</source>
            <translation>{number} von {total} auf der simulierten GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>{number} of {total} on the GPU</source>
            <translation>{number} von {total} auf der GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Point at a cell, or move with the arrow keys, to see where that expert is and why.</source>
            <translation>Auf eine Zelle zeigen oder mit den Pfeiltasten wandern, um zu sehen, wo der Experte liegt und warum.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Bar: measured. Tick: predicted. Point at a layer to see why.</source>
            <translation>Balken: gemessen. Strich: vorhergesagt. Auf eine Schicht zeigen, um zu sehen, warum.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/engine_panel.py" />
            <source>Upper bar: CPU. Lower bar: GPU. Tick: predicted. Point at a layer to see why.</source>
            <translation>Oben: CPU. Unten: GPU. Strich: vorhergesagt. Auf eine Schicht zeigen, um zu sehen, warum.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_map.py" />
            <source>Expert map</source>
            <translation>Karte der Experten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_map.py" />
            <source>{layers} layers with {experts} experts each; {resident} of {total} experts live on the GPU. Arrow keys move from expert to expert.</source>
            <translation>{layers} Schichten mit je {experts} Experten; {resident} von {total} Experten liegen auf der GPU. Pfeiltasten wandern von Experte zu Experte.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>Layer {layer}, expert {expert} lives on the GPU.</source>
            <translation>Schicht {layer}, Experte {expert} liegt auf der GPU.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>Layer {layer}, expert {expert} lives in RAM; its weights were just streamed to the GPU.</source>
            <translation>Schicht {layer}, Experte {expert} liegt im RAM; seine Gewichte wurden gerade zur GPU übertragen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>Layer {layer}, expert {expert} lives in RAM and runs on the CPU.</source>
            <translation>Schicht {layer}, Experte {expert} liegt im RAM und läuft auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>It gets {share} % of its layer's visits; the model has not run yet.</source>
            <translation>Auf ihn fallen {share} % der Besuche seiner Schicht; das Modell ist noch nicht gelaufen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>It gets {share} % of its layer's visits; used just now.</source>
            <translation>Auf ihn fallen {share} % der Besuche seiner Schicht; gerade eben benutzt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>It gets {share} % of its layer's visits; used a few tokens ago.</source>
            <translation>Auf ihn fallen {share} % der Besuche seiner Schicht; vor einigen Token benutzt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>It gets {share} % of its layer's visits; not used lately.</source>
            <translation>Auf ihn fallen {share} % der Besuche seiner Schicht; länger nicht benutzt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>No token of this pass went to it.</source>
            <translation>Kein Token dieses Durchlaufs ging an ihn.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>In this pass: {why}</source>
            <translation>In diesem Durchlauf: {why}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>Layer {number}</source>
            <translation>Schicht {number}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/expert_table.py" />
            <source>Expert {number}</source>
            <translation>Experte {number}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Speed</source>
            <translation>Geschwindigkeit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Hit rate</source>
            <translation>Trefferquote</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Streamed experts</source>
            <translation>Übertragene Experten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Cost model</source>
            <translation>Kostenmodell</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>hit rate, this reply</source>
            <translation>Trefferquote, diese Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>tokens/s, last reply</source>
            <translation>Token/s, letzte Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>tokens/s</source>
            <translation>Token/s</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Decode speed of the whole reply, measured.</source>
            <translation>Geschwindigkeit über die ganze Antwort, gemessen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Decode speed over the last second, measured.</source>
            <translation>Geschwindigkeit der letzten Sekunde beim Antworten, gemessen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>in this reply</source>
            <translation>in dieser Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>One token over the time since the token before, measured.</source>
            <translation>Ein Token durch die Zeit seit dem Token davor, gemessen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>tokens/s, this token</source>
            <translation>Token/s, dieses Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>hit rate, this token</source>
            <translation>Trefferquote, dieses Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>streamed, this token</source>
            <translation>übertragen, dieses Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>for this token</source>
            <translation>für dieses Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>{hits} of {visits} visits found their expert in VRAM, measured {when}.</source>
            <translation>{hits} von {visits} Besuchen fanden ihren Experten im Grafikspeicher, gemessen {when}.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Experts whose weights were copied to the GPU {when}, and their bytes.</source>
            <translation>Experten, deren Gewichte {when} zur GPU kopiert wurden, und ihre Bytes.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>expert parts streamed</source>
            <translation>Expertenteile übertragen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>experts streamed</source>
            <translation>Experten übertragen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>What an expert costs on each side: {source}.</source>
            <translation>Was ein Experte auf jeder Seite kostet: {source}.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>The worst curve misses its measurements by {share} (median).</source>
            <translation>Die schlechteste Kurve liegt {share} neben ihren Messungen (Median).</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>Times predicted for the last pass were off by {share}.</source>
            <translation>Die für den letzten Durchlauf vorhergesagten Zeiten lagen {share} daneben.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>uncertainty of predictions</source>
            <translation>Unsicherheit der Vorhersagen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/figures.py" />
            <source>costs {source}</source>
            <translation>Kosten {source}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Find in this chat</source>
            <translation>In diesem Chat suchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Previous match (Shift+Enter)</source>
            <translation>Voriger Treffer (Umschalt+Enter)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Next match (Enter)</source>
            <translation>Nächster Treffer (Enter)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Close (Esc)</source>
            <translation>Schließen (Esc)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Searching…</source>
            <translation>Suche läuft…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>No matches</source>
            <translation>Keine Treffer</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>{number} of {count}</source>
            <translation>{number} von {count}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Welcome to Rooftop</source>
            <translation>Willkommen bei Rooftop</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Looking for models on this computer…</source>
            <translation>Modelle auf diesem Computer werden gesucht…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Try the bundled guide</source>
            <translation>Mitgelieferten Guide ausprobieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Get a model…</source>
            <translation>Modell besorgen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Skip</source>
            <translation>Überspringen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>This PC: {machine}</source>
            <translation>Dieser PC: {machine}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Chat with models that are larger than your graphics card.
Everything stays on this computer.</source>
            <translation>Chatten Sie mit Modellen, die größer sind als Ihre Grafikkarte.
Alles bleibt auf diesem Computer.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Chat with {model}</source>
            <translation>Mit {model} chatten</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/first_run_view.py" />
            <source>%n models on this computer would run, among them:</source>
            <translation>
                <numerusform>%n Modell auf diesem Computer würde laufen:</numerusform>
                <numerusform>%n Modelle auf diesem Computer würden laufen, darunter:</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>Found on this computer:</source>
            <translation>Auf diesem Computer gefunden:</translation>
        </message>
        <message>
            <location filename="../../app/widgets/first_run_view.py" />
            <source>No other model that runs here was found on this computer yet.</source>
            <translation>Auf diesem Computer wurde noch kein anderes Modell gefunden, das hier läuft.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_columns.py" />
            <source>Layer strip, in columns</source>
            <translation>Schichten in Spalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_lens.py" />
            <source>One layer of the expert map, enlarged</source>
            <translation>Eine Schicht der Expertenkarte, vergrößert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_lens.py" />
            <source>Layer {number}, enlarged</source>
            <translation>Schicht {number}, vergrößert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_lens.py" />
            <source>Layer {number}, expert {expert}</source>
            <translation>Schicht {number}, Experte {expert}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>both</source>
            <translation>beide</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>No pass has been measured yet.</source>
            <translation>Noch kein Durchlauf wurde gemessen.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/layer_strip.py" />
            <source>{sides} of this pass: %n tokens</source>
            <translation>
                <numerusform>{sides} dieses Durchlaufs: %n Token</numerusform>
                <numerusform>{sides} dieses Durchlaufs: %n Token</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>Layer strip</source>
            <translation>Schichten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>Share of CPU and GPU</source>
            <translation>Anteil von CPU und GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>simulated GPU</source>
            <translation>simulierte GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>Rows</source>
            <translation>Zeilen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>Columns</source>
            <translation>Spalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>Shows the layers the other way.</source>
            <translation>Zeigt die Schichten in der anderen Form.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_strip.py" />
            <source>{totals}. Arrow keys move from layer to layer.</source>
            <translation>{totals}. Pfeiltasten wandern von Schicht zu Schicht.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/layer_table.py" />
            <source>Layer {layer}: not run yet.</source>
            <translation>Schicht {layer}: noch nicht gelaufen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/limit_line.py" />
            <source>What limits the speed now</source>
            <translation>Was die Geschwindigkeit gerade begrenzt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/loading_bar.py" />
            <source>Loading progress</source>
            <translation>Ladefortschritt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/loading_bar.py" />
            <source>Cancel</source>
            <translation>Abbrechen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/loading_bar.py" />
            <source>Cancel loading</source>
            <translation>Laden abbrechen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/loading_bar.py" />
            <source>Starting the engine for {model}</source>
            <translation>Engine für {model} wird gestartet</translation>
        </message>
        <message>
            <location filename="../../app/widgets/loading_bar.py" />
            <source>Cancelling</source>
            <translation>Wird abgebrochen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Open a model: a .gguf file, or any .safetensors file of its folder</source>
            <translation>Modell öffnen: eine .gguf-Datei oder eine beliebige .safetensors-Datei seines Ordners</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Models ({patterns})</source>
            <translation>Modelle ({patterns})</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Open model folder</source>
            <translation>Modellordner öffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>Legend of the expert map</source>
            <translation>Legende der Expertenkarte</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>Solid blue: on the GPU. Hatched orange: just streamed to the GPU. Hollow grey: on the CPU. The more a cell stands out, the more recently it was used.</source>
            <translation>Volles Blau: auf der GPU. Schraffiertes Orange: gerade zur GPU übertragen. Hohles Grau: auf der CPU. Je stärker eine Zelle hervortritt, desto kürzlicher wurde sie benutzt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>The more a cell stands out, the more recently its expert was used.</source>
            <translation>Je stärker eine Zelle hervortritt, desto kürzlicher wurde ihr Experte benutzt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>on the GPU</source>
            <translation>auf der GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>just streamed</source>
            <translation>gerade übertragen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>on the CPU</source>
            <translation>auf der CPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>idle</source>
            <translation>ungenutzt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>used just now</source>
            <translation>gerade benutzt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/markdown_view.py" />
            <source>Reply text</source>
            <translation>Text der Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Dense</source>
            <translation>Dichter Teil</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Attention, norms, routers and embeddings: every token needs them.</source>
            <translation>Attention, Normen, Router und Embeddings: Jedes Token braucht sie.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>KV cache</source>
            <translation>KV-Cache</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>What attention remembers of the conversation; its size is set by the context length.</source>
            <translation>Was die Attention vom Gespräch behält; die Kontextlänge bestimmt die Größe.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>The weights of the experts that live here.</source>
            <translation>Die Gewichte der Experten, die hier liegen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Workspace</source>
            <translation>Arbeitsbereich</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Room to compute in, buffers that experts are streamed through, and the driver's own share.</source>
            <translation>Platz zum Rechnen, Puffer für geladene Experten und der Anteil des Treibers.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Simulated</source>
            <translation>Simuliert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>The simulated GPU's memory is really RAM.</source>
            <translation>Der Speicher der simulierten GPU ist in Wahrheit RAM.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Engine</source>
            <translation>Engine</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>The rest of the engine's process: its buffers and those of its libraries.</source>
            <translation>Der Rest des Engine-Prozesses: seine Puffer und die seiner Bibliotheken.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Other programs</source>
            <translation>Andere Programme</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>All that is not the engine.</source>
            <translation>Alles, was nicht die Engine ist.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Nobody uses this memory now.</source>
            <translation>Diesen Speicher benutzt gerade niemand.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Read from a file as they are used. The system keeps the latest in memory that is free.</source>
            <translation>Werden bei Gebrauch aus einer Datei gelesen. Das System behält die letzten in freiem Speicher.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_gauge.py" />
            <source>{memory} gauge</source>
            <translation>Anzeige für {memory}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_gauge.py" />
            <source>{memory}: unknown.</source>
            <translation>{memory}: unbekannt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_gauge.py" />
            <source>budget {size}</source>
            <translation>Budget {size}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_gauge.py" />
            <source>{used} of {total} used: {parts}.</source>
            <translation>{used} von {total} belegt: {parts}.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_gauge.py" />
            <source> ({share} of {total})</source>
            <translation> ({share} von {total})</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_gauge.py" />
            <source>{size} used</source>
            <translation>{size} belegt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_gauge.py" />
            <source>model {size} of budget {budget}</source>
            <translation>Modell {size} von Budget {budget}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Previous version</source>
            <translation>Vorige Fassung</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Next version</source>
            <translation>Nächste Fassung</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Show versions side by side</source>
            <translation>Versionen nebeneinander zeigen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Continue this reply</source>
            <translation>Diese Antwort fortsetzen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Write this reply anew</source>
            <translation>Diese Antwort neu schreiben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>What helps</source>
            <translation>Was hilft</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Copy this message</source>
            <translation>Diese Nachricht kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Copy this reply</source>
            <translation>Diese Antwort kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Edit this message</source>
            <translation>Diese Nachricht bearbeiten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Delete this message and what follows</source>
            <translation>Diese Nachricht und alles danach löschen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Version {number} of {count}</source>
            <translation>Fassung {number} von {count}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_actions.py" />
            <source>Retry</source>
            <translation>Erneut versuchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_editor.py" />
            <source>Save and send</source>
            <translation>Speichern und senden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_editor.py" />
            <source>Edit your message</source>
            <translation>Ihre Nachricht bearbeiten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>Writing…</source>
            <translation>Schreibt…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>Thinking…</source>
            <translation>Denkt nach…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>Stopped</source>
            <translation>Angehalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>Reached the reply limit</source>
            <translation>Längengrenze der Antwort erreicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>The context is full: start a new chat with Ctrl+N</source>
            <translation>Der Kontext ist voll: Beginnen Sie mit Strg+N einen neuen Chat</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/message_footer.py" />
            <source>Written without %n older messages, which no longer fit</source>
            <translation>
                <numerusform>Geschrieben ohne %n ältere Nachricht, die nicht mehr hineinpasst</numerusform>
                <numerusform>Geschrieben ohne %n ältere Nachrichten, die nicht mehr hineinpassen</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>first token after {time}</source>
            <translation>erstes Token nach {time}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>{number} prompt tokens cached</source>
            <translation>{number} Token der Eingabe gemerkt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>Broke off: the engine stopped</source>
            <translation>Abgebrochen: Die Engine hat aufgehört</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_footer.py" />
            <source>Broke off: Rooftop was closed</source>
            <translation>Abgebrochen: Rooftop wurde geschlossen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Your message</source>
            <translation>Ihre Nachricht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_list.py" />
            <source>Smaller models</source>
            <translation>Kleinere Modelle</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_list.py" />
            <source>Give up this conversion? What is done of it is deleted; {name} stays as it is.</source>
            <translation>Diese Umwandlung aufgeben? Was davon fertig ist, wird gelöscht; {name} bleibt, wie es ist.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>4 bits</source>
            <translation>4 Bit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>8 bits</source>
            <translation>8 Bit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>Made and checked</source>
            <translation>Fertig und geprüft</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>waiting for its turn</source>
            <translation>wartet, bis es an der Reihe ist</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>making it smaller</source>
            <translation>wird verkleinert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>reading it back</source>
            <translation>wird zur Prüfung gelesen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>stopped</source>
            <translation>abgebrochen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>{name} in {bits}</source>
            <translation>{name} in {bits}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>Pause</source>
            <translation>Anhalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/conversion_row.py" />
            <source>Load now</source>
            <translation>Jetzt laden</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/desk.py" />
            <source>%n downloads are unfinished: {names}.</source>
            <translation>
                <numerusform>%n Download ist unfertig: {names}.</numerusform>
                <numerusform>%n Downloads sind unfertig: {names}.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/desk.py" />
            <source>%n models were being made smaller: {names}.</source>
            <translation>
                <numerusform>%n Modell wurde gerade verkleinert: {names}.</numerusform>
                <numerusform>%n Modelle wurden gerade verkleinert: {names}.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>Details of the model</source>
            <translation>Einzelheiten des Modells</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>Whether it runs here</source>
            <translation>Ob es hier läuft</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>VRAM</source>
            <translation>Grafikspeicher</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>RAM</source>
            <translation>RAM</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>&amp;Load</source>
            <translation>&amp;Laden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>&amp;Show in folder</source>
            <translation>Im &amp;Ordner zeigen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>&amp;Make smaller…</source>
            <translation>&amp;Verkleinern…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>&amp;Delete…</source>
            <translation>L&amp;öschen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>Family</source>
            <translation>Familie</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>Weights</source>
            <translation>Gewichte</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>Parameters</source>
            <translation>Parameter</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>Context</source>
            <translation>Kontext</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>Folder</source>
            <translation>Ordner</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>&amp;Load from disk</source>
            <translation>Vom &amp;Laufwerk laden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>This model is loaded.</source>
            <translation>Dieses Modell ist geladen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>The guide comes with Rooftop and stays.</source>
            <translation>Der Guide gehört zu Rooftop und bleibt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>This model is loaded; load another one before you delete it.</source>
            <translation>Dieses Modell ist geladen; laden Sie ein anderes, bevor Sie es löschen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>The speed is an estimate; the first start measures this computer.</source>
            <translation>Die Geschwindigkeit ist geschätzt; der erste Start misst diesen Rechner.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>{all}, {active} for each token</source>
            <translation>{all}, {active} für jedes Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>{each} in each of {layers} layers, {active} for each token</source>
            <translation>je {each} in {layers} Schichten, {active} für jedes Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>up to {number} tokens</source>
            <translation>bis zu {number} Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/details.py" />
            <source>{format}; {size} on disk</source>
            <translation>{format}; {size} auf dem Laufwerk</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/dialog.py" />
            <source>Models</source>
            <translation>Modelle</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/dialog.py" />
            <source>Pages</source>
            <translation>Seiten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/dialog.py" />
            <source>On this &amp;computer</source>
            <translation>Auf diesem &amp;Computer</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/dialog.py" />
            <source>&amp;Recommended</source>
            <translation>&amp;Empfohlen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/dialog.py" />
            <source>Search &amp;Hugging Face</source>
            <translation>Auf &amp;Hugging Face suchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/dialog.py" />
            <source>A folder or a .gguf file can also be dropped here, or on the window.</source>
            <translation>Ein Ordner oder eine .gguf-Datei lässt sich auch hier oder auf dem Fenster ablegen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/download_list.py" />
            <source>Downloads</source>
            <translation>Downloads</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/download_list.py" />
            <source>Give up this download? The {size} that have arrived are deleted.</source>
            <translation>Diesen Download aufgeben? Die {size}, die da sind, werden gelöscht.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/download_row.py" />
            <source>Downloaded and checked, {size}</source>
            <translation>Heruntergeladen und geprüft, {size}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_list.py" />
            <source>{number} parameters</source>
            <translation>{number} Parameter</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_list.py" />
            <source>Working out whether it fits…</source>
            <translation>Es wird geprüft, ob es passt…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_list.py" />
            <source>loaded</source>
            <translation>geladen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Search</source>
            <translation>Suchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Search the models</source>
            <translation>Modelle durchsuchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Order of the models</source>
            <translation>Reihenfolge der Modelle</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>By name</source>
            <translation>Nach Name</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>By size</source>
            <translation>Nach Größe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>By speed</source>
            <translation>Nach Geschwindigkeit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>By family</source>
            <translation>Nach Familie</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Look &amp;again</source>
            <translation>&amp;Noch einmal nachsehen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Add &amp;folder…</source>
            <translation>Ordner &amp;hinzufügen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Models on this computer</source>
            <translation>Modelle auf diesem Computer</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>How many models there are</source>
            <translation>Wie viele Modelle es gibt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>See recommended models</source>
            <translation>Empfohlene Modelle ansehen</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/found_page.py" />
            <source>%n models, {size}</source>
            <translation>
                <numerusform>%n Modell, {size}</numerusform>
                <numerusform>%n Modelle, {size}</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>looking…</source>
            <translation>wird gesucht…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>No model is called that.</source>
            <translation>Kein Modell heißt so.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>No other model was found here.</source>
            <translation>Hier wurde kein anderes Modell gefunden.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Look for models in</source>
            <translation>Modelle suchen in</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Move {name} to the trash? {size} come free when the trash is emptied.</source>
            <translation>{name} in den Papierkorb legen? {size} werden frei, wenn er geleert wird.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Move to trash</source>
            <translation>In den Papierkorb</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>{problem} Delete {name} for good? This cannot be undone.</source>
            <translation>{problem} {name} endgültig löschen? Das lässt sich nicht rückgängig machen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Delete for good</source>
            <translation>Endgültig löschen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/found_page.py" />
            <source>Keep</source>
            <translation>Behalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Name of a model, e.g. Mixtral GGUF</source>
            <translation>Name eines Modells, z. B. Mixtral GGUF</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Search Hugging Face</source>
            <translation>Auf Hugging Face suchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>&amp;Search</source>
            <translation>&amp;Suchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Repository</source>
            <translation>Repository</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Downloads in a month</source>
            <translation>Downloads im Monat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Repositories</source>
            <translation>Repositorys</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Files</source>
            <translation>Dateien</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Size</source>
            <translation>Größe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>What the repository offers</source>
            <translation>Was das Repository anbietet</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>What you search for is sent to huggingface.co, and nothing else.</source>
            <translation>Ihre Suchwörter werden an huggingface.co gesendet, sonst nichts.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>&amp;Download</source>
            <translation>&amp;Herunterladen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Enter access &amp;token…</source>
            <translation>Zugangs&amp;token eingeben…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Asking the hub…</source>
            <translation>Der Hub wird gefragt…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Downloading; see below.</source>
            <translation>Wird heruntergeladen; siehe unten.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Nothing is called that. Try fewer words, or add GGUF.</source>
            <translation>Nichts heißt so. Versuchen Sie weniger Wörter oder ergänzen Sie GGUF.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>%n repositories</source>
            <translation>
                <numerusform>%n Repository</numerusform>
                <numerusform>%n Repositorys</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>licence {name}</source>
            <translation>Lizenz {name}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>not stated</source>
            <translation>nicht angegeben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>needs an access token</source>
            <translation>braucht ein Zugangstoken</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>{size} free on the drive</source>
            <translation>{size} frei auf dem Laufwerk</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>Asking how fast it would run…</source>
            <translation>Es wird gefragt, wie schnell es liefe …</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>It is on this computer now; see below.</source>
            <translation>Es liegt jetzt auf diesem Computer; siehe unten.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/progress_row.py" />
            <source>Make smaller…</source>
            <translation>Verkleinern…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/progress_row.py" />
            <source>Progress of {name}</source>
            <translation>Fortschritt von {name}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/recommended_page.py" />
            <source>about {size}</source>
            <translation>etwa {size}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/recommended_page.py" />
            <source>Download</source>
            <translation>Herunterladen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/recommended_page.py" />
            <source>Download {name}</source>
            <translation>{name} herunterladen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/recommended_page.py" />
            <source>Downloads go to {folder}, where {size} are free. Nothing is asked of the hub before you click.</source>
            <translation>Downloads kommen nach {folder}, dort sind {size} frei. Der Hub wird erst gefragt, wenn Sie klicken.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/recommended_page.py" />
            <source>{verdict} Estimated from its published shape.</source>
            <translation>{verdict} Geschätzt nach seiner veröffentlichten Form.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/row_list.py" />
            <source>Give up</source>
            <translation>Aufgeben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/smaller_dialog.py" />
            <source>Make smaller</source>
            <translation>Verkleinern</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/smaller_dialog.py" />
            <source>Makes a new model of {name} ({size}) that needs less memory and answers faster. {name} stays.</source>
            <translation>Macht aus {name} ({size}) ein neues Modell, das weniger Speicher braucht und schneller antwortet. {name} bleibt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/smaller_dialog.py" />
            <source>Smallest and fastest; answers differ a little from the original's.</source>
            <translation>Am kleinsten und schnellsten; die Antworten weichen ein wenig vom Original ab.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/smaller_dialog.py" />
            <source>Hardly to be told from the original.</source>
            <translation>Vom Original kaum zu unterscheiden.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/smaller_dialog.py" />
            <source>Working out the sizes…</source>
            <translation>Die Größen werden berechnet…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/smaller_dialog.py" />
            <source>Needs {needed} in {folder}, where {free} are free.</source>
            <translation>Braucht {needed} in {folder}, wo {free} frei sind.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/smaller_dialog.py" />
            <source>Needs {needed} in {folder}, where only {free} are free: make room there first.</source>
            <translation>Braucht {needed} in {folder}, wo nur {free} frei sind: Schaffen Sie dort zuerst Platz.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/token_dialog.py" />
            <source>Access token</source>
            <translation>Zugangstoken</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/token_dialog.py" />
            <source>The publisher lets only some accounts download this model. Ask for access on the model's page on huggingface.co, then create an access token in your account's settings there and paste it here.</source>
            <translation>Der Herausgeber lässt nur manche Konten dieses Modell herunterladen. Bitten Sie auf der Seite des Modells bei huggingface.co um Zugang, erzeugen Sie dann dort in den Einstellungen Ihres Kontos ein Zugangstoken und fügen Sie es hier ein.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/token_dialog.py" />
            <source>It is kept in your system's keyring and sent to the hub alone.</source>
            <translation>Es liegt im Schlüsselbund Ihres Systems und wird nur an den Hub gesendet.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/token_dialog.py" />
            <source>That is no access token; copy it again, without anything around it.</source>
            <translation>Das ist kein Zugangstoken; kopieren Sie es noch einmal, ohne etwas darum herum.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/models/token_dialog.py" />
            <source>Your system has no keyring: the token lasts until Rooftop is closed.</source>
            <translation>Ihr System hat keinen Schlüsselbund: Das Token gilt, bis Rooftop geschlossen wird.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Save or arrange the live panel</source>
            <translation>Live-Ansicht speichern oder anordnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Live panel's menu</source>
            <translation>Menü der Live-Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Save as picture (PNG)…</source>
            <translation>Als Bild speichern (PNG)…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Save values (JSON)…</source>
            <translation>Werte speichern (JSON)…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Unfold all</source>
            <translation>Alles aufklappen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Fold all</source>
            <translation>Alles zuklappen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Save the live panel as a picture</source>
            <translation>Live-Ansicht als Bild speichern</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Save the live panel's values</source>
            <translation>Werte der Live-Ansicht speichern</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>{path} could not be saved: {reason}. Choose another folder.</source>
            <translation>{path} ließ sich nicht speichern: {reason}. Wählen Sie einen anderen Ordner.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>Saved as {path}</source>
            <translation>Gespeichert als {path}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_menu.py" />
            <source>token {number}</source>
            <translation>Token {number}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>no value</source>
            <translation>kein Wert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>simulated</source>
            <translation>simuliert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>This GPU is simulated</source>
            <translation>Diese GPU ist simuliert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>Where the experts are, and why</source>
            <translation>Wo die Experten sind und warum</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>Weights and kernels</source>
            <translation>Gewichte und Kernel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>Try the simulated GPU</source>
            <translation>Simulierte GPU ausprobieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>Reloads the model with a GPU that is computed on the CPU.</source>
            <translation>Lädt das Modell mit einer GPU neu, die von der CPU berechnet wird.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>Device</source>
            <translation>Gerät</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>No NVIDIA GPU found: every expert runs on the CPU.</source>
            <translation>Keine NVIDIA-GPU gefunden: Jeder Experte läuft auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>No NVIDIA GPU found.</source>
            <translation>Keine NVIDIA-GPU gefunden.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>Looking for a GPU</source>
            <translation>Eine GPU wird gesucht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>{size}; speeds are not a real GPU's</source>
            <translation>{size}; nicht so schnell wie eine echte GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>Every expert runs on the CPU.</source>
            <translation>Jeder Experte läuft auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>{gpu} is not used</source>
            <translation>{gpu} wird nicht verwendet</translation>
        </message>
        <message>
            <location filename="../../app/widgets/panel_parts.py" />
            <source>{what}: {done} of {total}</source>
            <translation>{what}: {done} von {total}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>{rate} / {best}</source>
            <translation>{rate} / {best}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>GPU</source>
            <translation>GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>experts read from RAM</source>
            <translation>Experten aus dem RAM gelesen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>Bytes of the experts that ran on the CPU in the last pass, over the measured time of its CPU side.</source>
            <translation>Bytes der Experten, die im letzten Durchlauf auf der CPU liefen, durch die gemessene Zeit der CPU-Seite.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>copied to the {gpu}, at least</source>
            <translation>auf die {gpu} kopiert, mindestens</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>Bytes of the experts streamed in the last pass, over the measured time of the GPU side in their layers. The GPU computed in that time too, so the link was at least as fast.</source>
            <translation>Bytes der im letzten Durchlauf übertragenen Experten durch die gemessene Zeit der GPU-Seite in ihren Schichten. In dieser Zeit rechnete die GPU auch, die Verbindung war also mindestens so schnell.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>experts read on the {gpu}</source>
            <translation>Experten auf der {gpu} gelesen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>Bytes of the experts that ran on the GPU, over its measured time in layers that streamed nothing.</source>
            <translation>Bytes der Experten, die auf der GPU liefen, durch ihre gemessene Zeit in Schichten ohne Übertragung.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>Measured rates</source>
            <translation>Gemessene Raten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>not measured</source>
            <translation>nicht gemessen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>Measured in the last pass / reached when the costs were measured. </source>
            <translation>Im letzten Durchlauf gemessen / beim Messen der Kosten erreicht. </translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>After the stroke: what one expert alone reached when the costs were measured.</source>
            <translation>Nach dem Strich: was ein Experte allein beim Messen der Kosten erreichte.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/report_dialog.py" />
            <source>&amp;Copy</source>
            <translation>&amp;Kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>&amp;System prompt</source>
            <translation>&amp;Systemprompt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>Sto&amp;p texts</source>
            <translation>Sto&amp;pptexte</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>One per line; \n stands for a line break.</source>
            <translation>Einer je Zeile; \n steht für einen Zeilenumbruch.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>The reply is JSON that this schema allows, and nothing else. Empty for any text.</source>
            <translation>Die Antwort ist JSON, das dieses Schema erlaubt, und nichts anderes. Leer für beliebigen Text.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>&amp;JSON schema</source>
            <translation>&amp;JSON-Schema</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>What the model is told before the conversation</source>
            <translation>Was dem Modell vor dem Gespräch gesagt wird</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>all</source>
            <translation>alle</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>random</source>
            <translation>zufällig</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>Stop texts</source>
            <translation>Stopptexte</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>JSON schema</source>
            <translation>JSON-Schema</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>&amp;Temperature</source>
            <translation>&amp;Temperatur</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>0 always takes the likeliest; higher varies</source>
            <translation>0 nimmt immer das Wahrscheinlichste; höher variiert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>T&amp;op-p</source>
            <translation>T&amp;op-p</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>Draw from the likeliest that hold this share together</source>
            <translation>Aus den Wahrscheinlichsten ziehen, die zusammen diesen Anteil haben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>Top-&amp;k</source>
            <translation>Top-&amp;k</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>Draw from so many of the likeliest</source>
            <translation>Aus so vielen der Wahrscheinlichsten ziehen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>&amp;Min-p</source>
            <translation>&amp;Min-p</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>Draw from those at least this likely beside the best</source>
            <translation>Aus denen ziehen, die neben dem Besten mindestens so wahrscheinlich sind</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>&amp;Repetition penalty</source>
            <translation>&amp;Wiederholungsmalus</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>1 for none; higher repeats less</source>
            <translation>1 für keinen; höher wiederholt weniger</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>Most to&amp;kens</source>
            <translation>Höchstzahl To&amp;ken</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>A longer reply ends there</source>
            <translation>Eine längere Antwort endet dort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>See&amp;d</source>
            <translation>Start&amp;wert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>The same seed draws the same reply again</source>
            <translation>Derselbe Startwert zieht wieder dieselbe Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>As the preset</source>
            <translation>Wie die Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>{name} as the preset</source>
            <translation>{name} wie die Vorgabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sampling_editor.py" />
            <source>The system prompt is longer than {most} characters.</source>
            <translation>Der Systemprompt ist länger als {most} Zeichen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>Tokens of the last reply</source>
            <translation>Token der letzten Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>Token of the last reply</source>
            <translation>Token der letzten Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>Drag, or use the arrow keys, to see the map and the layers as of an earlier token.</source>
            <translation>Durch Ziehen oder mit den Pfeiltasten sehen Sie Karte und Schichten, wie sie bei einem früheren Token waren.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>Live</source>
            <translation>Live</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>Back to what happens now.</source>
            <translation>Zurück zu dem, was gerade geschieht.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/scrubber.py" />
            <source>Drag to go back through the reply, %n tokens</source>
            <translation>
                <numerusform>Ziehen, um durch die Antwort zurückzugehen, %n Token</numerusform>
                <numerusform>Ziehen, um durch die Antwort zurückzugehen, %n Token</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>No reply yet</source>
            <translation>Noch keine Antwort</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>Token {number} of {total}</source>
            <translation>Token {number} von {total}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>after {time}, from the prompt</source>
            <translation>nach {time}, aus der Eingabe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/scrubber.py" />
            <source>(no text)</source>
            <translation>(kein Text)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>Advanced</source>
            <translation>Erweitert</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>&amp;Use a simulated GPU with</source>
            <translation>Simulierte GPU &amp;verwenden mit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>Memory of the simulated GPU</source>
            <translation>Speicher der simulierten GPU</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>Automatic: the best that the CPU has</source>
            <translation>Automatisch: die besten, die die CPU hat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>Shows placement and streaming without a graphics card; its speeds are not a real GPU's.</source>
            <translation>Zeigt Verteilung und Übertragung ohne Grafikkarte; die Geschwindigkeiten sind nicht die einer echten GPU.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>The other two are for comparison: they are what Fiddler improves on.</source>
            <translation>Die anderen beiden dienen dem Vergleich: Sie sind das, was Fiddler verbessert.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>&amp;Where an expert runs</source>
            <translation>&amp;Wo ein Experte läuft</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>CPU &amp;kernels</source>
            <translation>CPU-Rechen&amp;kerne</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>Enter; Shift+Enter starts a new line</source>
            <translation>Enter; Umschalt+Enter beginnt eine neue Zeile</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>Ctrl+Enter; Enter starts a new line</source>
            <translation>Strg+Enter; Enter beginnt eine neue Zeile</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>&amp;Send with</source>
            <translation>&amp;Senden mit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>Stop and say so</source>
            <translation>Anhalten und es sagen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>Leave out the oldest messages</source>
            <translation>Die ältesten Nachrichten weglassen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>Keep the first question, leave out the middle</source>
            <translation>Die erste Frage behalten, die Mitte weglassen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>&amp;Full context</source>
            <translation>&amp;Voller Kontext</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>&amp;Open the last chat at start</source>
            <translation>Letzten Chat beim Start ö&amp;ffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>Start</source>
            <translation>Start</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Settings</source>
            <translation>Einstellungen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Search the settings</source>
            <translation>Einstellungen durchsuchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>No setting is called that.</source>
            <translation>Keine Einstellung heißt so.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Applied; the values in force are up to date.</source>
            <translation>Angewendet; die Werte in Kraft sind auf dem neuesten Stand.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Not applied. {reason}</source>
            <translation>Nicht angewendet. {reason}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Applying reloads the model.</source>
            <translation>Beim Anwenden wird das Modell neu geladen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Applying keeps the model loaded; the next reply reads the whole chat again.</source>
            <translation>Beim Anwenden bleibt das Modell geladen; die nächste Antwort liest den ganzen Chat neu.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Applying keeps the model loaded.</source>
            <translation>Beim Anwenden bleibt das Modell geladen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Applied; waiting for the engine.</source>
            <translation>Angewendet; die Antwort der Engine steht noch aus.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Applied.</source>
            <translation>Angewendet.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Measuring what an expert costs on this machine.</source>
            <translation>Es wird gemessen, was ein Experte auf diesem Rechner kostet.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>Folder for downloaded models</source>
            <translation>Ordner für heruntergeladene Modelle</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>&amp;Choose…</source>
            <translation>&amp;Wählen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>Folders to look for models in</source>
            <translation>Ordner, in denen Modelle gesucht werden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>A&amp;dd…</source>
            <translation>&amp;Hinzufügen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>&amp;Remove</source>
            <translation>&amp;Entfernen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>Empty for the usual place. Models that lie in another folder already stay there.</source>
            <translation>Leer für den üblichen Ort. Modelle, die schon in einem anderen Ordner liegen, bleiben dort.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>Do&amp;wnloaded models</source>
            <translation>H&amp;eruntergeladene Modelle</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>Models in these folders are listed on the model page, beside those of the Hugging Face cache, LM Studio and GPT4All. Removing a folder here deletes nothing.</source>
            <translation>Modelle in diesen Ordnern stehen auf der Modellseite, neben denen aus dem Hugging-Face-Cache, LM Studio und GPT4All. Einen Ordner hier zu entfernen löscht nichts.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/folders_page.py" />
            <source>&amp;Look for models in</source>
            <translation>&amp;Modelle suchen in</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>General</source>
            <translation>Allgemein</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>As the system</source>
            <translation>Wie das System</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Light</source>
            <translation>Hell</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Dark</source>
            <translation>Dunkel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Closing the window &amp;keeps Rooftop in the tray</source>
            <translation>Beim Schließen des Fensters bleibt Rooftop im &amp;Infobereich</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>A new language is used from the next start on.</source>
            <translation>Eine neue Sprache gilt ab dem nächsten Start.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>&amp;Language</source>
            <translation>S&amp;prache</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Th&amp;eme</source>
            <translation>&amp;Farbschema</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Text si&amp;ze</source>
            <translation>Schrift&amp;größe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Check for new &amp;versions once a day</source>
            <translation>Einmal am Tag nach neuen &amp;Versionen sehen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Check &amp;now</source>
            <translation>&amp;Jetzt nachsehen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Only this version's number is sent, and nothing is installed.</source>
            <translation>Nur die Nummer dieser Version wird gesendet, und nichts wird installiert.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>This is the newest version.</source>
            <translation>Dies ist die neueste Version.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Looking…</source>
            <translation>Wird nachgesehen …</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/gpu_page.py" />
            <source>Re&amp;pair</source>
            <translation>Re&amp;parieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/gpu_page.py" />
            <source>Install from a &amp;folder…</source>
            <translation>Aus einem &amp;Ordner installieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/gpu_page.py" />
            <source>Package index to take GPU support from</source>
            <translation>Paketverzeichnis, aus dem die GPU-Unterstützung kommt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/gpu_page.py" />
            <source>Empty for the usual places. A mirror must have the very same files. Without a network, copy the files into a folder elsewhere and install from that.</source>
            <translation>Leer für die üblichen Orte. Ein Spiegelserver muss genau dieselben Dateien haben. Ohne Netz kopieren Sie die Dateien anderswo in einen Ordner und installieren aus diesem.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/gpu_page.py" />
            <source>&amp;Mirror</source>
            <translation>&amp;Spiegelserver</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/gpu_page.py" />
            <source>&amp;Install</source>
            <translation>&amp;Installieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/gpu_page.py" />
            <source>Folder with the files of GPU support</source>
            <translation>Ordner mit den Dateien der GPU-Unterstützung</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Model and memory</source>
            <translation>Modell und Speicher</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source> tokens</source>
            <translation> Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Automatic: as the model</source>
            <translation>Automatisch: wie das Modell</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>16 bits</source>
            <translation>16 Bit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>8 bits: half the memory</source>
            <translation>8 Bit: halber Speicher</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>A&amp;utomatic: by cores and size of the experts</source>
            <translation>A&amp;utomatisch: nach Kernen und Größe der Experten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>The experts in VRAM &amp;follow the conversation, where that pays</source>
            <translation>Die Experten im Grafikspeicher &amp;folgen dem Gespräch, wo sich das lohnt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>&amp;Keep experts on disk (for models larger than memory)</source>
            <translation>Experten auf dem &amp;Laufwerk halten (für Modelle größer als der Arbeitsspeicher)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>&amp;Measure again</source>
            <translation>Neu &amp;messen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Measure this machine's costs again</source>
            <translation>Kosten dieses Rechners neu messen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Automatic: the one with the most VRAM</source>
            <translation>Automatisch: die mit dem meisten Grafikspeicher</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Leave to other programs</source>
            <translation>Anderen Programmen lassen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>For games, for example: an automatic budget never grows into this part.</source>
            <translation>Zum Beispiel für Spiele: Ein automatisches Budget wächst nie in diesen Teil hinein.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>&amp;VRAM budget</source>
            <translation>&amp;Grafikspeicher-Budget</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>&amp;Room for other programs</source>
            <translation>&amp;Raum für andere Programme</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>&amp;Context length</source>
            <translation>&amp;Kontextlänge</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>KV cac&amp;he</source>
            <translation>KV-Cac&amp;he</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>CPU &amp;threads</source>
            <translation>CPU-&amp;Threads</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>No NVIDIA graphics card was found.</source>
            <translation>Keine NVIDIA-Grafikkarte gefunden.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>&amp;Graphics card</source>
            <translation>Grafik&amp;karte</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Slow: what memory cannot hold is read from the drive at every token. Needs as much free space there as the experts take.</source>
            <translation>Langsam: Was der Arbeitsspeicher nicht fasst, wird bei jedem Token vom Laufwerk gelesen. Braucht dort so viel freien Platz wie die Experten.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Large models</source>
            <translation>Große Modelle</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>This machine's costs</source>
            <translation>Kosten dieses Rechners</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>{number}: not found</source>
            <translation>{number}: nicht gefunden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/page.py" />
            <source>needs reload</source>
            <translation>lädt neu</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/page.py" />
            <source>Applying a change reloads the model.</source>
            <translation>Das Anwenden einer Änderung lädt das Modell neu.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>Presets</source>
            <translation>Vorgaben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>D&amp;uplicate</source>
            <translation>D&amp;uplizieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>&amp;Delete</source>
            <translation>&amp;Löschen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>Use for &amp;new chats</source>
            <translation>Für &amp;neue Chats verwenden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>&amp;Import…</source>
            <translation>&amp;Importieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>&amp;Export…</source>
            <translation>&amp;Exportieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>N&amp;ame</source>
            <translation>N&amp;ame</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>{name} (for new chats)</source>
            <translation>{name} (für neue Chats)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>Comes with Rooftop and stays as it is; duplicate it to change the copy.</source>
            <translation>Gehört zu Rooftop und bleibt, wie es ist; duplizieren Sie es, um die Kopie zu ändern.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>Presets ({patterns})</source>
            <translation>Vorgaben ({patterns})</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>Import a preset</source>
            <translation>Vorgabe importieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>Export the preset</source>
            <translation>Vorgabe exportieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/presets_page.py" />
            <source>Exported to {name}.</source>
            <translation>Exportiert nach {name}.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>Privacy</source>
            <translation>Datenschutz</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>Your chats never leave this machine. There is no account and no telemetry. Rooftop connects to huggingface.co only when you search for a model or download one, and sends what you search for; links are opened only after you have agreed.</source>
            <translation>Ihre Chats verlassen diesen Rechner nie. Es gibt kein Konto und keine Telemetrie. Rooftop verbindet sich nur mit huggingface.co, wenn Sie ein Modell suchen oder herunterladen, und sendet, was Sie suchen; Links werden nur geöffnet, wenn Sie zugestimmt haben.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>GPU support is fetched from pypi.org, on Windows from pytorch.org, or from a mirror of yours, when you install it; nothing is sent.</source>
            <translation>Die GPU-Unterstützung wird von pypi.org, unter Windows von pytorch.org, oder von Ihrem Spiegelserver geladen, wenn Sie sie installieren; gesendet wird nichts.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>Open the folder of: {what}</source>
            <translation>Ordner öffnen: {what}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>&amp;Delete all chats…</source>
            <translation>Alle Chats &amp;löschen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>All chats</source>
            <translation>Alle Chats</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>Once a day Rooftop also asks whether there is a newer version, if you turn that on under General.</source>
            <translation>Einmal am Tag sieht Rooftop außerdem nach, ob es eine neuere Version gibt, wenn Sie das unter Allgemein einschalten.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/shortcuts_page.py" />
            <source>Shortcuts</source>
            <translation>Tastenkürzel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Keyboard shortcuts</source>
            <translation>Tastenkürzel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Everywhere</source>
            <translation>Überall</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>In the list of chats</source>
            <translation>In der Liste der Chats</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Open the chat</source>
            <translation>Den Chat öffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Rename the chat</source>
            <translation>Den Chat umbenennen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Delete the chat</source>
            <translation>Den Chat löschen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>In the message field</source>
            <translation>Im Nachrichtenfeld</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Send the message</source>
            <translation>Nachricht senden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Start a new line</source>
            <translation>Neue Zeile beginnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Scroll the chat up by a page</source>
            <translation>Im Chat eine Seite nach oben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/shortcuts_dialog.py" />
            <source>Scroll the chat down by a page</source>
            <translation>Im Chat eine Seite nach unten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Chats</source>
            <translation>Chats</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>New chat</source>
            <translation>Neuer Chat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>New chat (Ctrl+N)</source>
            <translation>Neuer Chat (Strg+N)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Open</source>
            <translation>Öffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Rename</source>
            <translation>Umbenennen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Unpin</source>
            <translation>Loslösen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Pin to the top</source>
            <translation>Oben anheften</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Move to folder</source>
            <translation>In Ordner verschieben</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>New folder…</source>
            <translation>Neuer Ordner…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Out of its folder</source>
            <translation>Aus dem Ordner nehmen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Export…</source>
            <translation>Exportieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Delete</source>
            <translation>Löschen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Delete all chats…</source>
            <translation>Alle Chats löschen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>No chat has these words.</source>
            <translation>Kein Chat enthält diese Wörter.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Your chats will be listed here.</source>
            <translation>Hier werden Ihre Chats aufgeführt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>New folder</source>
            <translation>Neuer Ordner</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Name of the folder</source>
            <translation>Name des Ordners</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Search chats</source>
            <translation>Chats durchsuchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>Search chats (Ctrl+K)</source>
            <translation>Chats durchsuchen (Strg+K)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thoughts</source>
            <translation>Gedanken</translation>
        </message>
        <message>
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thought for {time}</source>
            <translation>{time} nachgedacht</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thought for %n words</source>
            <translation>
                <numerusform>%n Wort lang nachgedacht</numerusform>
                <numerusform>%n Wörter lang nachgedacht</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/timeline.py" />
            <source>Timelines</source>
            <translation>Zeitverläufe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/timeline.py" />
            <source>now</source>
            <translation>jetzt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/timeline.py" />
            <source>{seconds} s ago</source>
            <translation>vor {seconds} s</translation>
        </message>
        <message>
            <location filename="../../app/widgets/timeline.py" />
            <source>{ago}: nothing was measured</source>
            <translation>{ago}: nichts gemessen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/timeline.py" />
            <source>speed</source>
            <translation>Geschwindigkeit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/timeline.py" />
            <source>hit rate</source>
            <translation>Trefferquote</translation>
        </message>
        <message>
            <location filename="../../app/widgets/timeline.py" />
            <source>{minutes} min ago</source>
            <translation>vor {minutes} min</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Models (Ctrl+M)</source>
            <translation>Modelle (Strg+M)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Time to first token</source>
            <translation>Zeit bis zum ersten Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Chats (Ctrl+B)</source>
            <translation>Chats (Strg+B)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Chat options (Ctrl+Shift+P)</source>
            <translation>Chat-Optionen (Strg+Umschalt+P)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Live panel (Ctrl+Shift+B)</source>
            <translation>Live-Ansicht (Strg+Umschalt+B)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>This GPU is simulated: its speed is computed, not real.</source>
            <translation>Diese GPU ist simuliert: Ihre Geschwindigkeit ist errechnet, nicht echt.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Where the model runs</source>
            <translation>Wo das Modell läuft</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Model {name}; choose another one</source>
            <translation>Modell {name}; ein anderes wählen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>first token {time}</source>
            <translation>erstes Token {time}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/transcript.py" />
            <source>Jump to latest</source>
            <translation>Zum Neuesten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/transcript.py" />
            <source>Jump to the latest message</source>
            <translation>Zur neuesten Nachricht springen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/user_bubble.py" />
            <source>Show the whole message</source>
            <translation>Ganze Nachricht anzeigen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/user_bubble.py" />
            <source>Show all: {count} more characters</source>
            <translation>Alles anzeigen: {count} weitere Zeichen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/user_bubble.py" />
            <source>Show all</source>
            <translation>Alles zeigen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/versions_dialog.py" />
            <source>Versions side by side</source>
            <translation>Versionen nebeneinander</translation>
        </message>
        <message>
            <location filename="../../app/widgets/versions_dialog.py" />
            <source>{shown} of {count} versions</source>
            <translation>{shown} von {count} Versionen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/versions_dialog.py" />
            <source>Version {number}</source>
            <translation>Version {number}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/versions_dialog.py" />
            <source>{version}, shown in the chat</source>
            <translation>{version}, im Chat gezeigt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/versions_dialog.py" />
            <source>Copy version {number}</source>
            <translation>Version {number} kopieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/versions_dialog.py" />
            <source>Use this one</source>
            <translation>Diese verwenden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/versions_dialog.py" />
            <source>Use version {number}</source>
            <translation>Version {number} verwenden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Menu</source>
            <translation>Menü</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;File</source>
            <translation>&amp;Datei</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;View</source>
            <translation>&amp;Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Help</source>
            <translation>&amp;Hilfe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Stop the reply, or take a waiting message back</source>
            <translation>Antwort anhalten oder wartende Nachricht zurücknehmen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Next match in this chat</source>
            <translation>Nächster Treffer in diesem Chat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Previous match in this chat</source>
            <translation>Vorheriger Treffer in diesem Chat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Go to the message field</source>
            <translation>Zum Nachrichtenfeld</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>The chat above</source>
            <translation>Der Chat darüber</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>The chat below</source>
            <translation>Der Chat darunter</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Fin&amp;d in chat…</source>
            <translation>Im Chat s&amp;uchen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>A&amp;ttach files…</source>
            <translation>Dateien an&amp;hängen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Models…</source>
            <translation>&amp;Modelle…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Open model file (.gguf)…</source>
            <translation>Modelldatei ö&amp;ffnen (.gguf)…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Open model &amp;folder…</source>
            <translation>Modell&amp;ordner öffnen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Import chats…</source>
            <translation>Chats &amp;importieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Export this chat…</source>
            <translation>Diesen Chat e&amp;xportieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Export &amp;all chats…</source>
            <translation>&amp;Alle Chats exportieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Undo delete</source>
            <translation>Löschen Löschen rückgän&amp;gig machenzurücknehmen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Save live panel as &amp;picture…</source>
            <translation>Live-Ansicht als Bil&amp;d speichern…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Save live panel's &amp;values…</source>
            <translation>&amp;Werte der Live-Ansicht speichern…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Chat options…</source>
            <translation>&amp;Chat-Optionen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Settings…</source>
            <translation>&amp;Einstellungen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Chats</source>
            <translation>&amp;Chats</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Live panel</source>
            <translation>&amp;Live-Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Theme</source>
            <translation>&amp;Farbschema</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>As the &amp;system</source>
            <translation>Wie das &amp;System</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Light</source>
            <translation>&amp;Hell</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Dark</source>
            <translation>&amp;Dunkel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Keep in the tray when closed</source>
            <translation>Beim Schließen im &amp;Infobereich behalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>L&amp;arger text</source>
            <translation>&amp;Größere Schrift</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>S&amp;maller text</source>
            <translation>&amp;Kleinere Schrift</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>N&amp;ormal text</source>
            <translation>&amp;Normale Schrift</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;Keyboard shortcuts</source>
            <translation>&amp;Tastenkürzel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Open &amp;logs folder</source>
            <translation>&amp;Protokollordner öffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>Copy &amp;diagnostics…</source>
            <translation>&amp;Diagnose kopieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/window_menus.py" />
            <source>&amp;About Rooftop</source>
            <translation>&amp;Über Rooftop</translation>
        </message>
        <message>
            <location filename="../../engine/__main__.py" />
            <source>GPU support could not be used.</source>
            <translation>Die GPU-Unterstützung ließ sich nicht nutzen.</translation>
        </message>
        <message>
            <location filename="../../engine/__main__.py" />
            <source>Start this again: the CPU computes alone until you have repaired GPU support in the settings.</source>
            <translation>Starten Sie dies noch einmal: Die CPU rechnet allein, bis Sie die GPU-Unterstützung in den Einstellungen repariert haben.</translation>
        </message>
        <message>
            <location filename="../../engine/chat_template.py" />
            <source>it has {number} characters, and {most} is the limit</source>
            <translation>sie hat {number} Zeichen, und {most} sind die Grenze</translation>
        </message>
        <message>
            <location filename="../../engine/chat_template.py" />
            <source>it runs longer than {number} s</source>
            <translation>sie läuft länger als {number} s</translation>
        </message>
        <message>
            <location filename="../../engine/chat_template.py" />
            <source>The model's chat template refuses this conversation: {error}.</source>
            <translation>Die Chat-Vorlage des Modells lehnt dieses Gespräch ab: {error}.</translation>
        </message>
        <message>
            <location filename="../../engine/chat_template.py" />
            <source>Change the messages; roles must usually alternate between user and assistant.</source>
            <translation>Ändern Sie die Nachrichten; meist müssen sich die Rollen user und assistant abwechseln.</translation>
        </message>
        <message>
            <location filename="../../engine/chat_template.py" />
            <source>The model's chat template cannot be used: {reason}.</source>
            <translation>Die Chat-Vorlage des Modells ist nicht brauchbar: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/chat_template.py" />
            <source>Download the model again, or use one with a sound chat template.</source>
            <translation>Laden Sie das Modell neu herunter oder verwenden Sie eines mit einer brauchbaren Chat-Vorlage.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>Give a folder with safetensors files, or a .gguf file.</source>
            <translation>Geben Sie einen Ordner mit safetensors-Dateien oder eine .gguf-Datei an.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>{name} is not a path to a model.</source>
            <translation>{name} ist kein Pfad zu einem Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>{name} cannot be looked up: {reason}.</source>
            <translation>{name} lässt sich nicht nachschlagen: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>There is no folder or file {name}.</source>
            <translation>Es gibt weder Ordner noch Datei {name}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>Check the path, or give 'guide'.</source>
            <translation>Prüfen Sie den Pfad oder geben Sie „guide“ an.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>There is no folder {name}, and no such model was downloaded.</source>
            <translation>Es gibt keinen Ordner {name}, und kein solches Modell wurde heruntergeladen.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>Download it on the model page, or with `python -m engine download --repo {name}`.</source>
            <translation>Laden Sie es auf der Modellseite herunter oder mit `python -m engine download --repo {name}`.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>The bundled model 'guide' is missing from this installation.</source>
            <translation>Das mitgelieferte Modell „guide“ fehlt in dieser Installation.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/catalog.py" />
            <source>Install Rooftop again.</source>
            <translation>Installieren Sie Rooftop neu.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/checkpoint.py" />
            <source>{path} holds no tensor {name}.</source>
            <translation>{path} enthält keinen Tensor {name}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/checkpoint.py" />
            <source>{index} promises tensor {name} in {file}, which does not hold it.</source>
            <translation>{index} verspricht den Tensor {name} in {file}, die ihn nicht enthält.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/checkpoint.py" />
            <source>Download both files again.</source>
            <translation>Laden Sie beide Dateien neu herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/checkpoint.py" />
            <source>The model has over {most} tensors, more than can be right.</source>
            <translation>Das Modell hat über {most} Tensoren, mehr als stimmen kann.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/checkpoint.py" />
            <source>Get the model from its publisher.</source>
            <translation>Beziehen Sie das Modell vom Herausgeber.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/checkpoint.py" />
            <source>{file} holds tensor {name}, which a model as in {config} does not have.</source>
            <translation>{file} enthält den Tensor {name}, den ein Modell laut {config} nicht hat.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/checkpoint.py" />
            <source>Download {config} again, from the same place as the weights.</source>
            <translation>Laden Sie {config} neu herunter, von derselben Stelle wie die Gewichte.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>Choose a model of a family that is known to run, or its GGUF file.</source>
            <translation>Wählen Sie ein Modell einer Familie, die bekanntlich läuft, oder seine GGUF-Datei.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>Download the model again from its publisher.</source>
            <translation>Laden Sie das Modell neu vom Herausgeber herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>Download {config} again from the model's publisher.</source>
            <translation>Laden Sie {config} neu vom Herausgeber des Modells herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>The architecture {named} keeps its experts in a way that is not supported yet.</source>
            <translation>Die Architektur {named} hält ihre Experten auf eine Weise, die noch nicht unterstützt wird.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>The first expert of layer {layer} is missing or has no width.</source>
            <translation>Der erste Experte von Schicht {layer} fehlt oder hat keine Breite.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>Expert {expert} of layer {layer} is missing or has another shape than the others.</source>
            <translation>Experte {expert} von Schicht {layer} fehlt oder hat eine andere Form als die anderen.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>Layers have different numbers of experts.</source>
            <translation>Schichten haben verschieden viele Experten.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>Tensor {entry} in {file} is stored as {format}, not one of {names}.</source>
            <translation>Der Tensor {entry} in {file} ist als {format} gespeichert, nicht als eines von {names}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/compatible.py" />
            <source>Choose the original bfloat16 version of the model.</source>
            <translation>Wählen Sie die ursprüngliche bfloat16-Fassung des Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/families.py" />
            <source>not a list of {number} times {one} or {other}</source>
            <translation>keine Liste mit {number}-mal {one} oder {other}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/families.py" />
            <source>Choose a {names} or {last}; those are the architectures supported today.</source>
            <translation>Wählen Sie {names} oder {last}; diese Architekturen werden heute unterstützt.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/fields.py" />
            <source>not a whole number from {low} to {high}</source>
            <translation>keine ganze Zahl von {low} bis {high}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/fields.py" />
            <source>not a number from {low} to {high}</source>
            <translation>keine Zahl von {low} bis {high}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/fields.py" />
            <source>not a list of {count} numbers</source>
            <translation>keine Liste mit {count} Zahlen</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/fields.py" />
            <source>not all of them numbers from {low} to {high}</source>
            <translation>nicht nur Zahlen von {low} bis {high}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/fields.py" />
            <source>neither true nor false</source>
            <translation>weder wahr noch falsch</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/fields.py" />
            <source>{source} says {name} is {value}, {limit}.</source>
            <translation>{source}: {name} ist {value}, {limit}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/fields.py" />
            <source>{source} lacks {name}.</source>
            <translation>{source}: {name} fehlt.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>The metadata of {file}</source>
            <translation>Die Metadaten von {file}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>is {format} {shape} in</source>
            <translation>ist {format} {shape} in</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>is missing from</source>
            <translation>fehlt in</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>Tensor {name} {what} {file}, which needs {count} F32 numbers there.</source>
            <translation>Der Tensor {name} {what} {file}, nötig sind dort {count} F32-Zahlen.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>Tensor {name} in {file} holds factors that are not above 0.</source>
            <translation>Der Tensor {name} in {file} enthält Faktoren, die nicht über 0 liegen.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>{source} lacks {architecture}.</source>
            <translation>{source}: {architecture} fehlt.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>not a text</source>
            <translation>kein Text</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>{source} tells of a dense model ({arch}), not a Mixture-of-Experts.</source>
            <translation>{source} beschreiben ein dichtes Modell ({arch}), kein Mixture-of-Experts.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>{source} names the architecture {arch}, not supported yet.</source>
            <translation>{source} nennen die Architektur {arch}, die noch nicht unterstützt wird.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>{source} says {name} is {value}, which is not supported.</source>
            <translation>{source}: {name} ist {value}, das wird nicht unterstützt.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>{source} asks for the rotary embedding {kind}, scaled by {factor}, of which only the plain kind is supported.</source>
            <translation>{source} verlangen die Rotationseinbettung {kind}, gestreckt um {factor}; unterstützt wird nur die einfache Art.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>no divisor of {name} {heads}</source>
            <translation>kein Teiler von {name} {heads}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>not a multiple of {name} {heads} up to {most} times that</source>
            <translation>kein Vielfaches von {name} {heads} bis zum {most}-Fachen davon</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>not an even number</source>
            <translation>keine gerade Zahl</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>{source} says {name} is {width}, of which only the width of a head, {head_dim}, is supported.</source>
            <translation>{source}: {name} ist {width}; unterstützt wird nur die Breite eines Kopfes, {head_dim}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>has shape {shape} in</source>
            <translation>hat die Form {shape} in</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_config.py" />
            <source>Tensor {embedding} {what} {file}.</source>
            <translation>Der Tensor {embedding} {what} {file}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>the name of a tensor</source>
            <translation>der Name eines Tensors</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>Choose the Q4_K_M or Q4_0 file of the model.</source>
            <translation>Wählen Sie die Q4_K_M- oder Q4_0-Datei des Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>the key {key} is empty, unprintable or there twice</source>
            <translation>der Schlüssel {key} ist leer, nicht druckbar oder doppelt vorhanden</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{file} is truncated inside its header: {size} bytes of at least {end}.</source>
            <translation>{file} bricht im Dateikopf ab: {size} Bytes von mindestens {end}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>its header is over the limit of {most} bytes</source>
            <translation>ihr Dateikopf überschreitet die Grenze von {most} Bytes</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{what} is {length} bytes long, over the limit of {most}</source>
            <translation>{what}: {length} Bytes lang, mehr als die Grenze von {most}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{what} is not UTF-8 text</source>
            <translation>{what}: kein UTF-8-Text</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>it promises {count} {what}, more than its {size} bytes can hold</source>
            <translation>sie verspricht {count} {what}, mehr als ihre {size} Bytes fassen</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{file} is damaged: {what}.</source>
            <translation>{file} ist beschädigt: {what}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{name} is not a GGUF file: it does not begin with 'GGUF'.</source>
            <translation>{name} ist keine GGUF-Datei: Sie beginnt nicht mit „GGUF“.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>Check that the download is complete, and download it again.</source>
            <translation>Prüfen Sie, ob sie vollständig heruntergeladen wurde, und laden Sie sie neu herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>in big-endian byte order</source>
            <translation>in Big-Endian-Bytefolge</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>of version {version}</source>
            <translation>der Version {version}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{name} is a GGUF file {what}, not a little-endian one of version 2 or 3.</source>
            <translation>{name} ist eine GGUF-Datei {what}, nicht in Little-Endian und Version 2 oder 3.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>Download a newer conversion of the model.</source>
            <translation>Laden Sie eine neuere Umwandlung des Modells herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>metadata keys</source>
            <translation>Metadaten-Schlüssel</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>tensors</source>
            <translation>Tensoren</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>it promises {count} {what}, over the limit of {most}</source>
            <translation>sie verspricht {count} {what}, mehr als die Grenze von {most}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>the text of {key}</source>
            <translation>der Text von {key}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{key} has the unknown type {kind}</source>
            <translation>{key} hat den unbekannten Typ {kind}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>an array of arrays</source>
            <translation>eine Liste von Listen</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>an array of the unknown type {type}</source>
            <translation>eine Liste des unbekannten Typs {type}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{key} is {what}</source>
            <translation>{key} ist {what}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>values of {key}</source>
            <translation>Werte von {key}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{key} is {value}, neither true nor false</source>
            <translation>{key} ist {value}, weder wahr noch falsch</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>strings of {key}</source>
            <translation>Texte von {key}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>its arrays hold {number} strings, over the limit of {most}</source>
            <translation>ihre Listen enthalten {number} Texte, mehr als die Grenze von {most}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>a string of {key} is not UTF-8 text</source>
            <translation>ein Text von {key} ist kein UTF-8-Text</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>a tensor has the empty or unprintable name {name}</source>
            <translation>ein Tensor hat den leeren oder nicht druckbaren Namen {name}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>tensor {name} has {dimensions} dimensions, not 1 to {most}</source>
            <translation>der Tensor {name} hat {dimensions} Dimensionen, nicht 1 bis {most}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>tensor {name} has the empty shape {shape}</source>
            <translation>der Tensor {name} hat die leere Form {shape}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>Tensor {name} in {file} is stored as {kind}, which is not supported.</source>
            <translation>Der Tensor {name} in {file} ist als {kind} gespeichert, das nicht unterstützt wird.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>the unknown format {number}</source>
            <translation>das unbekannte Format {number}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>tensor {name} has {columns} columns, no multiple of {format}'s {block}</source>
            <translation>der Tensor {name} hat {columns} Spalten, kein Vielfaches der {block} von {format}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>general.alignment is {alignment}, no power of two from {least} to {most}</source>
            <translation>general.alignment ist {alignment}, keine Zweierpotenz von {least} bis {most}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>tensor {name} is there twice</source>
            <translation>der Tensor {name} ist doppelt vorhanden</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>tensor {name} begins at {offset}, no multiple of {alignment}</source>
            <translation>der Tensor {name} beginnt bei {offset}, keinem Vielfachen von {alignment}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>{file} is truncated: tensor {name} ends {number} bytes past its end.</source>
            <translation>{file} ist abgeschnitten: Der Tensor {name} endet {number} Bytes hinter dem Dateiende.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_file.py" />
            <source>tensor {name} overlaps another tensor</source>
            <translation>der Tensor {name} überschneidet sich mit einem anderen</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_model.py" />
            <source>Download all files of the model again, from the same place.</source>
            <translation>Laden Sie alle Dateien des Modells neu herunter, von derselben Stelle.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_model.py" />
            <source>Tensor {repeated} is in {file} and again in {shard}.</source>
            <translation>Der Tensor {repeated} liegt in {file} und noch einmal in {shard}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_model.py" />
            <source>{file} calls itself file {number} of {count}, which cannot be (up to {most}).</source>
            <translation>{file} nennt sich Datei {number} von {count}, was nicht sein kann (höchstens {most}).</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_model.py" />
            <source>{file} holds {key} {stated} and {other_key} {other_stated}, its name asks for {number} and {count}.</source>
            <translation>{file} enthält {key} {stated} und {other_key} {other_stated}, ihr Name verlangt {number} und {count}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_model.py" />
            <source>Give each file the name that its publisher gave it, or download them again.</source>
            <translation>Geben Sie jeder Datei den Namen vom Herausgeber oder laden Sie sie neu herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_model.py" />
            <source>{file} is part of a model of {stated} tensors, but the files here hold {tensors} together.</source>
            <translation>{file} gehört zu einem Modell mit {stated} Tensoren, aber die Dateien hier enthalten zusammen {tensors}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_model.py" />
            <source>{file} belongs to another model than {other} ({key}).</source>
            <translation>{file} gehört zu einem anderen Modell als {other} ({key}).</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>{file} has {number} experts, more than can be right.</source>
            <translation>{file} hat {number} Experten, mehr als stimmen kann.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>The {word} tensors of layer {layer}'s experts are stored as {format} and as {other}.</source>
            <translation>Die {word}-Tensoren der Experten von Schicht {layer} sind als {format} und als {other} gespeichert.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>Choose a file that holds a layer's experts in one format.</source>
            <translation>Wählen Sie eine Datei, in der die Experten einer Schicht dasselbe Format haben.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>Tensor {name} is missing from {file}.</source>
            <translation>Der Tensor {name} fehlt in {file}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>Tensor {name} in {file} has shape {shape}, the file's metadata asks for {wanted}.</source>
            <translation>Der Tensor {name} in {file} hat die Form {shape}, die Metadaten der Datei verlangen {wanted}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>{file} holds {name}: factors for a scaled rotary embedding, of which only the plain kind is supported.</source>
            <translation>{file} enthält {name}: Faktoren für eine gestreckte Rotationseinbettung; unterstützt wird nur die einfache Art.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>Choose the model without an extended context.</source>
            <translation>Wählen Sie das Modell ohne erweiterten Kontext.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>{file} holds tensor {name}, which is not part of a {family} model as this engine runs it.</source>
            <translation>{file} enthält den Tensor {name}, der nicht zu einem {family}-Modell gehört, wie es diese Engine betreibt.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/gguf_tensors.py" />
            <source>Choose another conversion of the model.</source>
            <translation>Wählen Sie eine andere Umwandlung des Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>Choose the model's GGUF version, or the original bfloat16 one.</source>
            <translation>Wählen Sie die GGUF-Fassung des Modells oder die ursprüngliche in bfloat16.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>{config} says that the weights are quantized ({method}), which is not supported for {title} yet.</source>
            <translation>Laut {config} sind die Gewichte quantisiert ({method}), was für {title} noch nicht unterstützt wird.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>{config} says {name} of {method} is {value}, of which only {plain} is supported.</source>
            <translation>Laut {config} ist {name} von {method} {value}; unterstützt wird nur {plain}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>{config}'s quantization_config</source>
            <translation>quantization_config in {config}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>no multiple of {number}</source>
            <translation>kein Vielfaches von {number}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>Tensor {name} has {inputs} inputs and {outputs} outputs, not whole groups of {group} and words of {codes}.</source>
            <translation>Der Tensor {name} hat {inputs} Eingänge und {outputs} Ausgänge, keine ganzen Gruppen von {group} und Wörter von {codes}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>Tensor {entry} in {file} is {format} {shape}, {config} asks for {kind} {size}.</source>
            <translation>Der Tensor {entry} in {file} ist {format} {shape}, {config} verlangt {kind} {size}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/int4.py" />
            <source>Download {config} and this file again, from the same place.</source>
            <translation>Laden Sie {config} und diese Datei neu herunter, von derselben Stelle.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>{config} does not say which architecture the model has.</source>
            <translation>{config} sagt nicht, welche Architektur das Modell hat.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>The model ({config}: {named}) is a dense model, not a Mixture-of-Experts.</source>
            <translation>Das Modell ({config}: {named}) ist ein dichtes Modell, kein Mixture-of-Experts.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>{config} names the architecture {named}, not supported yet.</source>
            <translation>{config} nennt die Architektur {named}, die noch nicht unterstützt wird.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>{config} says hidden_act is {activation}, not 'silu'.</source>
            <translation>Laut {config} ist hidden_act {activation}, nicht „silu“.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>{config} says {name} is {value}, of which only {plain} is supported.</source>
            <translation>Laut {config} ist {name} {value}; unterstützt wird nur {plain}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>not an object</source>
            <translation>kein Objekt</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>{config} asks for the rotary embedding {rope}, of which only rope_type {names} is supported.</source>
            <translation>{config} verlangt die Rotationseinbettung {rope}; unterstützt wird nur rope_type {names}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>{config} says that the weights are {stated}, not one of {names}.</source>
            <translation>Laut {config} sind die Gewichte {stated}, nicht eines von {names}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_config.py" />
            <source>Choose the bfloat16 version of the model.</source>
            <translation>Wählen Sie die bfloat16-Fassung des Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Choose a folder with config.json and safetensors files, or a .gguf file.</source>
            <translation>Wählen Sie einen Ordner mit config.json und safetensors-Dateien oder eine .gguf-Datei.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>The folder {folder} is empty.</source>
            <translation>Der Ordner {folder} ist leer.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>There is no folder or file {folder}.</source>
            <translation>Es gibt weder Ordner noch Datei {folder}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Check the path, or choose another model.</source>
            <translation>Prüfen Sie den Pfad oder wählen Sie ein anderes Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{folder} is a file, neither a model folder nor a .gguf file.</source>
            <translation>{folder} ist eine Datei, aber weder ein Modellordner noch eine .gguf-Datei.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{names} and {number} more</source>
            <translation>{names} und {number} weitere</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{path} holds {number} GGUF models: {names}.</source>
            <translation>{path} enthält {number} GGUF-Modelle: {names}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Give one of the files.</source>
            <translation>Geben Sie eine der Dateien an.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{config} is missing from {folder}.</source>
            <translation>{config} fehlt in {folder}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Choose the folder that holds it.</source>
            <translation>Wählen Sie den Ordner, der die Datei enthält.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Neither {single} nor {index} is in {folder}.</source>
            <translation>In {folder} liegen weder {single} noch {index}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Finish the download, or choose another folder.</source>
            <translation>Laden Sie die fehlenden Dateien herunter oder wählen Sie einen anderen Ordner.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{number} of {total} files named in {index} are missing, the first is {name}.</source>
            <translation>Von {total} in {index} genannten Dateien fehlen {number}, als erste {name}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Finish the download.</source>
            <translation>Laden Sie die fehlenden Dateien herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{tokenizer} is missing from {folder}; it turns text into tokens.</source>
            <translation>{tokenizer} fehlt in {folder}; die Datei macht aus Text Token.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Download {tokenizer} of this model into that folder.</source>
            <translation>Laden Sie {tokenizer} dieses Modells in diesen Ordner herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{tokenizer} is {size} bytes long, outside 1 to {most}.</source>
            <translation>{tokenizer} ist {size} Bytes lang, nicht 1 bis {most}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Download this file again.</source>
            <translation>Laden Sie diese Datei neu herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{index} has no weight_map that names files.</source>
            <translation>{index} hat keine weight_map, die Dateien nennt.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{index} names over {most} files.</source>
            <translation>{index} nennt über {most} Dateien.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>{folder} holds only pickle files, which can run code.</source>
            <translation>{folder} enthält nur Pickle-Dateien, die Code ausführen können.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/model_folder.py" />
            <source>Download the safetensors version.</source>
            <translation>Laden Sie die safetensors-Fassung herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>The header of {file}</source>
            <translation>Der Dateikopf von {file}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>{source} has metadata that is not an object.</source>
            <translation>{source} hat Metadaten, die kein Objekt sind.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>{source} lists {number} tensors, over the limit of {most}.</source>
            <translation>{source} nennt {number} Tensoren, mehr als die Grenze von {most}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>{file} claims a header of {length} bytes, over the limit of {most}.</source>
            <translation>{file} gibt einen Dateikopf von {length} Bytes an, mehr als die Grenze von {most}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>Check that it is a safetensors file, and download it again.</source>
            <translation>Prüfen Sie, ob es eine safetensors-Datei ist, und laden Sie sie neu herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>has a name that is empty, unprintable or over {most} characters</source>
            <translation>hat einen Namen, der leer, nicht druckbar oder länger als {most} Zeichen ist</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>is described by {fields}</source>
            <translation>ist als {fields} beschrieben</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>has the unknown dtype {dtype}</source>
            <translation>hat den unbekannten dtype {dtype}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>has the impossible shape {shape}</source>
            <translation>hat die unmögliche Form {shape}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>has the impossible data_offsets {offsets}</source>
            <translation>hat die unmöglichen data_offsets {offsets}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>is {size} bytes long where {dtype} {shape} takes {expected}</source>
            <translation>ist {size} Bytes lang, wo {dtype} {shape} {expected} braucht</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>overlaps another tensor</source>
            <translation>überschneidet sich mit einem anderen Tensor</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>leaves a gap before it</source>
            <translation>lässt eine Lücke vor sich</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>{file} has {size} bytes after its last tensor.</source>
            <translation>{file} hat {size} Bytes hinter dem letzten Tensor.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/safetensors_file.py" />
            <source>{file} is damaged: tensor {name} {what}.</source>
            <translation>{file} ist beschädigt: Der Tensor {name} {what}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/stacked.py" />
            <source>{config} says that experts of {hidden} by {inside} are in MXFP4, whose blocks hold {block} weights.</source>
            <translation>Laut {config} sind Experten von {hidden} mal {inside} in MXFP4, dessen Blöcke {block} Gewichte enthalten.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/stacked.py" />
            <source>Choose the model's GGUF version.</source>
            <translation>Wählen Sie die GGUF-Fassung des Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/stacked.py" />
            <source>Tensor {entry} in {file} has shape {shape}, {config} asks for {wanted}.</source>
            <translation>Der Tensor {entry} in {file} hat die Form {shape}, {config} verlangt {wanted}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/stacked.py" />
            <source>all {number} files of {index}</source>
            <translation>allen {number} Dateien von {index}</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/stacked.py" />
            <source>Tensor {name} is missing from {where}.</source>
            <translation>Der Tensor {name} fehlt in {where}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{file} is not a regular file.</source>
            <translation>{file} ist keine gewöhnliche Datei.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{file} is missing from {parent}.</source>
            <translation>{file} fehlt in {parent}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>Download it into that folder.</source>
            <translation>Laden Sie die Datei in diesen Ordner herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{file} cannot be read: {reason}.</source>
            <translation>{file} lässt sich nicht lesen: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>Check the drive and the file's permissions, then retry.</source>
            <translation>Prüfen Sie das Laufwerk und die Rechte der Datei und versuchen Sie es noch einmal.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{file} is truncated: it ends {number} bytes too early.</source>
            <translation>{file} ist abgeschnitten: Sie endet {number} Bytes zu früh.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{file} is {size} bytes long, over the limit of {most}.</source>
            <translation>{file} ist {size} Bytes lang, mehr als die Grenze von {most}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{source} holds {values} values, over the limit of {most}.</source>
            <translation>{source} enthält {values} Werte, mehr als die Grenze von {most}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>it nests too deeply</source>
            <translation>zu tief verschachtelt</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{source} is not valid JSON: {reason}.</source>
            <translation>{source} ist kein gültiges JSON: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{source} holds {parsed} instead of a JSON object.</source>
            <translation>{source} enthält {parsed} statt eines JSON-Objekts.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{source} names the file {name}, which is not a plain {suffix} file name.</source>
            <translation>{source} nennt die Datei {name}, was kein einfacher {suffix}-Dateiname ist.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>Do not use this download; get the model from its publisher.</source>
            <translation>Verwenden Sie diesen Download nicht; beziehen Sie das Modell vom Herausgeber.</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>the key {key} appears twice</source>
            <translation>der Schlüssel {key} kommt zweimal vor</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/untrusted.py" />
            <source>{value} is not a JSON number</source>
            <translation>{value} ist keine JSON-Zahl</translation>
        </message>
        <message>
            <location filename="../../engine/checkpoint/yarn.py" />
            <source>which is not supported</source>
            <translation>was nicht unterstützt wird</translation>
        </message>
        <message>
            <location filename="../../engine/config.py" />
            <source>seed is {seed}.</source>
            <translation>seed ist {seed}.</translation>
        </message>
        <message>
            <location filename="../../engine/config.py" />
            <source>Choose a whole number.</source>
            <translation>Wählen Sie eine ganze Zahl.</translation>
        </message>
        <message>
            <location filename="../../engine/config.py" />
            <source>There are a JSON schema and a grammar.</source>
            <translation>Es gibt ein JSON-Schema und eine Grammatik.</translation>
        </message>
        <message>
            <location filename="../../engine/config.py" />
            <source>Give one of them.</source>
            <translation>Geben Sie eines von beiden an.</translation>
        </message>
        <message>
            <location filename="../../engine/config.py" />
            <source>grammar</source>
            <translation>Grammatik</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>its vocabulary is too large</source>
            <translation>sein Wortschatz ist zu groß</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>Replies of this model cannot be bound to a schema: {error}.</source>
            <translation>Antworten dieses Modells lassen sich nicht an ein Schema binden: {error}.</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>Leave the schema out, or choose another model.</source>
            <translation>Lassen Sie das Schema weg oder wählen Sie ein anderes Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>The reply cannot be continued as its schema asks: {reason}.</source>
            <translation>Die Antwort lässt sich nicht so fortsetzen, wie ihr Schema es verlangt: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>The reply cannot be continued as its schema asks.</source>
            <translation>Die Antwort lässt sich nicht so fortsetzen, wie ihr Schema es verlangt.</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>Simplify the schema.</source>
            <translation>Vereinfachen Sie das Schema.</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>The reply so far does not follow the schema, so it cannot go on by it.</source>
            <translation>Die bisherige Antwort folgt dem Schema nicht und lässt sich deshalb nicht damit fortsetzen.</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>The {name} cannot be used: {reason}.</source>
            <translation>{name} nicht verwendbar: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/constraint.py" />
            <source>Simplify the {name}, or leave the part out that is named.</source>
            <translation>Vereinfachen Sie den genannten Teil ({name}) oder lassen Sie ihn weg.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>{path} changed while it was converted.</source>
            <translation>{path} hat sich während der Umwandlung geändert.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>Delete {folder}, then convert again.</source>
            <translation>Löschen Sie {folder} und wandeln Sie dann noch einmal um.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>The conversion was stopped at {share}.</source>
            <translation>Die Umwandlung wurde bei {share} angehalten.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>Convert again to go on where it stopped.</source>
            <translation>Wandeln Sie noch einmal um, um dort weiterzumachen, wo sie anhielt.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>Tensor {tensor} in {file} cannot be converted: {reason}.</source>
            <translation>Der Tensor {tensor} in {file} lässt sich nicht umwandeln: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>{path} cannot be used as a folder: {reason}.</source>
            <translation>{path} ist nicht als Ordner verwendbar: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>Choose another folder.</source>
            <translation>Wählen Sie einen anderen Ordner.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>{target} is the model's own folder, or inside it.</source>
            <translation>{target} ist der Ordner des Modells selbst oder liegt darin.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/conversion.py" />
            <source>Choose another folder for the new model.</source>
            <translation>Wählen Sie einen anderen Ordner für das neue Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/description.py" />
            <source>Other programs cannot load the new file by itself. {reason}</source>
            <translation>Andere Programme können die neue Datei nicht für sich allein laden. {reason}</translation>
        </message>
        <message>
            <location filename="../../engine/convert/journal.py" />
            <source>Choose another folder, or move that one away first.</source>
            <translation>Wählen Sie einen anderen Ordner oder verschieben Sie diesen zuerst.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/journal.py" />
            <source>{folder} holds a conversion of another model, of an earlier state of it, or to another format.</source>
            <translation>{folder} enthält eine Umwandlung eines anderen Modells, eines früheren Standes davon oder in ein anderes Format.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/journal.py" />
            <source>Another conversion into {folder} is running.</source>
            <translation>Eine andere Umwandlung nach {folder} läuft.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/journal.py" />
            <source>Wait for it to end, or stop it first.</source>
            <translation>Warten Sie auf ihr Ende oder halten Sie sie zuerst an.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/shape_metadata.py" />
            <source>Use the new folder with this engine, which reads the files beside the weights.</source>
            <translation>Verwenden Sie den neuen Ordner mit dieser Engine, die die Dateien neben den Gewichten liest.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/shape_metadata.py" />
            <source>GGUF has no words for its {field}.</source>
            <translation>GGUF hat keine Worte für {field} dieses Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/source.py" />
            <source>{path} is of the family {family}, which cannot be converted.</source>
            <translation>{path} gehört zur Familie {family}, die sich nicht umwandeln lässt.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/source.py" />
            <source>Use it as it is, or choose its GGUF file.</source>
            <translation>Benutze es, wie es ist, oder wähle seine GGUF-Datei.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/source.py" />
            <source>{path} is quantised already ({kind}); rounding it again would lose more.</source>
            <translation>{path} ist schon quantisiert ({kind}); noch einmal zu runden verlöre mehr.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/source.py" />
            <source>Use it as it is, or convert the model's original bfloat16 version.</source>
            <translation>Verwenden Sie es, wie es ist, oder wandeln Sie die ursprüngliche bfloat16-Fassung des Modells um.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/tokenizer_metadata.py" />
            <source>The tokenizer is of the kind {kind}.</source>
            <translation>Der Tokenizer ist von der Art {kind}.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/tokenizer_metadata.py" />
            <source>The tokenizer has more tokens than the embedding's {rows} rows.</source>
            <translation>Der Tokenizer hat mehr Token, als das Embedding Zeilen hat ({rows}).</translation>
        </message>
        <message>
            <location filename="../../engine/convert/tokenizer_metadata.py" />
            <source>More tokens end a reply than GGUF has names for.</source>
            <translation>Mehr Token beenden eine Antwort, als GGUF benennen kann.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/tokenizer_metadata.py" />
            <source>As SentencePiece pieces its tokenizer would give other ids.</source>
            <translation>Als SentencePiece-Stücke ergäbe der Tokenizer andere Nummern.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/tokenizer_metadata.py" />
            <source>Words with letters beyond A to Z may be cut otherwise by other programs.</source>
            <translation>Wörter mit Buchstaben außerhalb von A bis Z teilen andere Programme unter Umständen anders.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/tokenizer_metadata.py" />
            <source>No name that GGUF has for the cutting of words gives the ids of its tokenizer.</source>
            <translation>Keine der Arten, Wörter zu teilen, die GGUF benennt, ergibt die Nummern dieses Tokenizers.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/tokenizer_metadata.py" />
            <source>Spaces beside special tokens may be cut otherwise by other programs.</source>
            <translation>Leerzeichen neben besonderen Token teilen andere Programme unter Umständen anders.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/verification.py" />
            <source>Delete the folder, then convert the model again.</source>
            <translation>Löschen Sie den Ordner und wandeln Sie das Modell dann noch einmal um.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/verification.py" />
            <source>{folder} is no finished conversion: there are no checksums to hold it against.</source>
            <translation>{folder} ist keine fertige Umwandlung: Es gibt keine Prüfsummen, gegen die sich der Ordner prüfen ließe.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/verification.py" />
            <source>Give a folder that convert has made.</source>
            <translation>Geben Sie einen Ordner an, den convert angelegt hat.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/verification.py" />
            <source>Check the drive, then retry.</source>
            <translation>Prüfen Sie das Laufwerk und versuchen Sie es dann noch einmal.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/verification.py" />
            <source>{file} is damaged: {bad} of its {number} pieces differ from what was written, or its beginning or its length does.</source>
            <translation>{file} ist beschädigt: {bad} von {number} Stücken sind nicht mehr so, wie sie geschrieben wurden, oder der Anfang oder die Länge stimmt nicht.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>Check the drive and the folder's permissions, then convert again: it goes on where it stopped.</source>
            <translation>Prüfen Sie das Laufwerk und die Rechte des Ordners und wandeln Sie dann noch einmal um: Es geht dort weiter, wo es anhielt.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>{path} exists already, and is never overwritten.</source>
            <translation>{path} ist schon vorhanden und wird nie überschrieben.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>The drive of {folder} is full, at {share} of the conversion.</source>
            <translation>Das Laufwerk von {folder} ist voll, bei {share} der Umwandlung.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>Free some space there, then convert again: it goes on where it stopped.</source>
            <translation>Schaffen Sie dort Platz und wandeln Sie dann noch einmal um: Es geht dort weiter, wo es anhielt.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>{path} cannot be written: {reason}.</source>
            <translation>{path} lässt sich nicht schreiben: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>{folder} is in the way, and is no unfinished conversion.</source>
            <translation>{folder} ist im Weg und keine unfertige Umwandlung.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>The conversion needs {needed} more in {folder}, where {free} are free.</source>
            <translation>Die Umwandlung braucht noch {needed} in {folder}, wo {free} frei sind.</translation>
        </message>
        <message>
            <location filename="../../engine/convert/workplace.py" />
            <source>Free {missing} there, or choose a folder on another drive.</source>
            <translation>Schaffen Sie dort {missing} Platz oder wählen Sie einen Ordner auf einem anderen Laufwerk.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/cuda.py" />
            <source>The GPU does not work: {reason}.</source>
            <translation>Die GPU funktioniert nicht: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/cuda.py" />
            <source>Torch finds no usable NVIDIA GPU: {reason}.</source>
            <translation>Torch findet keine brauchbare NVIDIA-GPU: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/cuda.py" />
            <source>Torch finds no usable NVIDIA GPU.</source>
            <translation>Torch findet keine brauchbare NVIDIA-GPU.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/cuda.py" />
            <source>Install or update the NVIDIA driver, or choose the CPU.</source>
            <translation>Installieren oder aktualisieren Sie den NVIDIA-Treiber oder wählen Sie die CPU.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/cuda.py" />
            <source>Torch runs the experts on the GPU, more slowly than our kernels would: {reason}</source>
            <translation>Torch rechnet die Experten auf der GPU, langsamer als unsere Rechenkerne es täten: {reason}</translation>
        </message>
        <message>
            <location filename="../../engine/devices/device.py" />
            <source>{device} has {left} bytes left of its budget of {budget}, and {term} needs {size}.</source>
            <translation>{device}: {left} Bytes des Budgets von {budget} sind übrig, und {term} braucht {size}.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/device.py" />
            <source>Raise the VRAM budget or shorten the context.</source>
            <translation>Erhöhen Sie das Grafikspeicher-Budget oder verkürzen Sie den Kontext.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/device.py" />
            <source>{device} could not give {size} bytes for {term}; another program may hold them.</source>
            <translation>{device}: {size} Bytes für {term} waren nicht zu bekommen; vielleicht hält ein anderes Programm sie.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/device.py" />
            <source>Lower the VRAM budget or close other programs that use the GPU.</source>
            <translation>Senken Sie das Grafikspeicher-Budget oder schließen Sie andere Programme, die die GPU verwenden.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/faults.py" />
            <source>The GPU has no memory left ({said}).</source>
            <translation>Die GPU hat keinen freien Speicher mehr ({said}).</translation>
        </message>
        <message>
            <location filename="../../engine/devices/faults.py" />
            <source>Lower the VRAM budget or close other programs that use it.</source>
            <translation>Senken Sie das Grafikspeicher-Budget oder schließen Sie andere Programme, die ihn verwenden.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/faults.py" />
            <source>The GPU stopped working ({said}).</source>
            <translation>Die GPU ist ausgefallen ({said}).</translation>
        </message>
        <message>
            <location filename="../../engine/devices/faults.py" />
            <source>Start Rooftop again to use it; until then, load the model again and it runs on the CPU.</source>
            <translation>Starten Sie Rooftop neu, um sie wieder zu verwenden; laden Sie bis dahin das Modell neu, dann läuft es auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/hand_off.py" />
            <source>A signal by {name} never came.</source>
            <translation>Ein Signal durch {name} kam nie an.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/hand_off.py" />
            <source>The GPU did not go on after a trial ({name}).</source>
            <translation>Die GPU lief nach einem Versuch nicht weiter ({name}).</translation>
        </message>
        <message>
            <location filename="../../engine/devices/hand_off.py" />
            <source>Start Rooftop again.</source>
            <translation>Starten Sie Rooftop neu.</translation>
        </message>
        <message>
            <location filename="../../engine/devices/trial.py" />
            <source>They broke off the GPU's work when they were tried at an earlier start.</source>
            <translation>Sie brachen die Arbeit der GPU ab, als sie bei einem früheren Start ausprobiert wurden.</translation>
        </message>
        <message>
            <location filename="../../engine/engine.py" />
            <source>{names} cannot change while the model is loaded.</source>
            <translation>{names} lässt sich nicht ändern, solange das Modell geladen ist.</translation>
        </message>
        <message>
            <location filename="../../engine/engine.py" />
            <source>Load the model again.</source>
            <translation>Laden Sie das Modell neu.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/arena.py" />
            <source>memory addresses</source>
            <translation>Speicheradressen</translation>
        </message>
        <message>
            <location filename="../../engine/experts/arena.py" />
            <source>No file for the experts can be made in {folder} ({reason}).</source>
            <translation>In {folder} lässt sich keine Datei für die Experten anlegen ({reason}).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/arena.py" />
            <source>Choose another cache folder.</source>
            <translation>Wählen Sie einen anderen Cache-Ordner.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/arena.py" />
            <source>The experts need {size} on the drive of {folder}, {available} available (after {reserve} kept free).</source>
            <translation>Die Experten brauchen {size} auf dem Laufwerk von {folder}, {available} sind verfügbar ({reserve} bleiben frei).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/arena.py" />
            <source>Free some space there, or choose a smaller model.</source>
            <translation>Schaffen Sie dort Platz oder wählen Sie ein kleineres Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/arena.py" />
            <source>The system does not give the {size} of {what} that the experts need.</source>
            <translation>Das System gibt die {size} {what} nicht her, die die Experten brauchen.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/arena.py" />
            <source>Close other programs, or choose a smaller model.</source>
            <translation>Schließen Sie andere Programme oder wählen Sie ein kleineres Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/disk.py" />
            <source>The experts are kept on disk: a token visits {size} of them outside VRAM, of which RAM may hold {kept}%; about {speed}, an estimate for an SSD that reads {rate} GB/s.</source>
            <translation>Die Experten bleiben auf dem Laufwerk: Ein Token braucht {size} davon außerhalb des Grafikspeichers, der RAM fasst vielleicht {kept} %; etwa {speed}, geschätzt für eine SSD, die {rate} GB/s liest.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/executor.py" />
            <source>It is switched off in the settings.</source>
            <translation>In den Einstellungen ist es ausgeschaltet.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/explain.py" />
            <source>%n tokens</source>
            <translation>
                <numerusform>%n Token</numerusform>
                <numerusform>%n Token</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>Another program took {size} of VRAM</source>
            <translation>Ein anderes Programm hat {size} Grafikspeicher belegt</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{what}: no expert had to move.</source>
            <translation>{what}: Kein Experte musste weichen.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/explain.py" />
            <source>{what}: %n experts moved to RAM.</source>
            <translation>
                <numerusform>{what}: %n Experte ist in den RAM umgezogen.</numerusform>
                <numerusform>{what}: %n Experten sind in den RAM umgezogen.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{size} of VRAM became free</source>
            <translation>{size} Grafikspeicher sind frei geworden</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{what}: no expert had room to come back.</source>
            <translation>{what}: Kein Experte hatte Platz, um zurückzukommen.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/explain.py" />
            <source>{what}: %n experts came back.</source>
            <translation>
                <numerusform>{what}: %n Experte ist zurückgekommen.</numerusform>
                <numerusform>{what}: %n Experten sind zurückgekommen.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{expert} (part {part} of {parts})</source>
            <translation>{expert} (Teil {part} von {parts})</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>Expert {expert} on GPU: its weights live there ({tokens}, {time}).</source>
            <translation>Experte {expert} auf der GPU: Seine Gewichte liegen dort ({tokens}, {time}).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>Expert {expert} streamed to the GPU: {why} ({tokens}).</source>
            <translation>Experte {expert} zur GPU übertragen: {why} ({tokens}).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>Expert {expert} on CPU: there is no GPU ({tokens}, {time}).</source>
            <translation>Experte {expert} auf der CPU: Es gibt keine GPU ({tokens}, {time}).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>Expert {expert} on CPU: {why} ({tokens}).</source>
            <translation>Experte {expert} auf der CPU: {why} ({tokens}).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>of experts in {number} parts {places}</source>
            <translation>von Experten in {number} Teilen {places}</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>Layer {layer}, {tokens}: {places}.</source>
            <translation>Schicht {layer}, {tokens}: {places}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>and {number} more.</source>
            <translation>und {number} weitere.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>its weights were copied while the layer before ran, {gpu} there</source>
            <translation>seine Gewichte wurden kopiert, während die Schicht davor lief, {gpu} dort</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{cpu} on the CPU, {copy} to copy its weights and {gpu} there</source>
            <translation>{cpu} auf der CPU, {copy} zum Kopieren der Gewichte und {gpu} dort</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{copy} to copy its weights while the CPU is busy for {busy} with others</source>
            <translation>{copy} zum Kopieren der Gewichte, während die CPU {busy} mit anderen beschäftigt ist</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{cpu} on the CPU and {once} to call it and to bring activations there and back, {copy} to copy its weights and {gpu} there</source>
            <translation>{cpu} auf der CPU und {once} für den Aufruf sowie den Hin- und Rückweg der Aktivierungen, {copy} zum Kopieren der Gewichte und {gpu} dort</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{copy} to copy its weights, though the CPU would take {cpu}: the policy streams every expert</source>
            <translation>{copy} zum Kopieren der Gewichte, obwohl die CPU {cpu} bräuchte: Die Strategie überträgt jeden Experten</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{copy} to copy its weights; all streamed experts would take the CPU {all}</source>
            <translation>{copy} zum Kopieren der Gewichte; alle übertragenen Experten würden die CPU {all} kosten</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{here} here, and VRAM has no room to stream its weights through</source>
            <translation>{here} hier, und im Grafikspeicher ist kein Platz, um die Gewichte zu übertragen</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{here} here, though its weights live on the GPU: the policy uses the CPU only</source>
            <translation>{here} hier, obwohl die Gewichte auf der GPU liegen: Die Strategie verwendet nur die CPU</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{here} here, {copy} to copy its weights</source>
            <translation>{here} hier, {copy} zum Kopieren der Gewichte</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{here} here, {copy} to copy its weights: the policy uses the CPU only</source>
            <translation>{here} hier, {copy} zum Kopieren der Gewichte: Die Strategie verwendet nur die CPU</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{here} here; copying takes {copy}, but the GPU is already busy for {busy}</source>
            <translation>{here} hier; das Kopieren dauert {copy}, aber die GPU ist schon {busy} beschäftigt</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{here} here, {copy} to copy its weights and {gpu} there</source>
            <translation>{here} hier, {copy} zum Kopieren der Gewichte und {gpu} dort</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{number} on GPU</source>
            <translation>{number} auf der GPU</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{number} streamed</source>
            <translation>{number} übertragen</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{number} on CPU</source>
            <translation>{number} auf der CPU</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>no experts</source>
            <translation>keine Experten</translation>
        </message>
        <message>
            <location filename="../../engine/experts/explain.py" />
            <source>{side}: {predicted} predicted, {measured} measured.</source>
            <translation>{side}: {predicted} vorhergesagt, {measured} gemessen.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/forecast.py" />
            <source>Decode waits most for attention and the other dense layers ({time} of {total} per token).</source>
            <translation>Das Antworten wartet am meisten auf Attention und die anderen dichten Schichten ({time} von {total} je Token).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/forecast.py" />
            <source>Decode waits most for experts on the CPU, which reads them from RAM ({time} of {total} per token).</source>
            <translation>Das Antworten wartet am meisten auf Experten auf der CPU, die sie aus dem RAM liest ({time} von {total} je Token).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/forecast.py" />
            <source>Decode waits most for experts on the GPU, their copies included ({time} of {total} per token).</source>
            <translation>Das Antworten wartet am meisten auf Experten auf der GPU samt ihren Kopien ({time} von {total} je Token).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/forecast.py" />
            <source>Drawing and telling a token takes {time} of that.</source>
            <translation>Davon braucht es {time}, ein Token auszuwählen und auszugeben.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>Nothing has run yet.</source>
            <translation>Noch ist nichts gelaufen.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>Attention, dense weights and choosing the token: {time} of {total} a token; experts take the rest.</source>
            <translation>Attention, dichte Gewichte und die Wahl des Tokens: {time} von {total} pro Token; den Rest brauchen die Experten.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>CPU</source>
            <translation>CPU</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>Arithmetic on the CPU: {number} GFLOP/s for {tokens}.</source>
            <translation>Rechenleistung der CPU: {number} GFLOP/s für {tokens}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>Reading experts from disk and RAM: {rate}.</source>
            <translation>Lesen der Experten von Laufwerk und RAM: {rate}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>RAM bandwidth: {rate}.</source>
            <translation>RAM-Bandbreite: {rate}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>The link to the {gpu}: at least {rate}.</source>
            <translation>Die Verbindung zur {gpu}: mindestens {rate}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>Arithmetic on the {gpu}: {time} for {tokens}.</source>
            <translation>Rechenleistung der {gpu}: {time} für {tokens}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>The {gpu}'s own memory: {time} for the experts of {tokens}.</source>
            <translation>Der eigene Speicher der {gpu}: {time} für die Experten von {tokens}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>The {gpu}'s own memory: {time} for the experts of {tokens} ({rate}).</source>
            <translation>Der eigene Speicher der {gpu}: {time} für die Experten von {tokens} ({rate}).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>Fixed costs of starting experts on the {device}, {share} of their time by the cost model: one expert is only {size}.</source>
            <translation>Feste Kosten für das Starten von Experten auf der {device}, laut Kostenmodell {share} ihrer Zeit: Ein Experte hat nur {size}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>There is no GPU that could take experts.</source>
            <translation>Es gibt keine GPU, die Experten aufnehmen könnte.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>No GPU is used.</source>
            <translation>Es wird keine GPU verwendet.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>Every expert is in VRAM: more would not help.</source>
            <translation>Alle Experten sind im Grafikspeicher: Mehr davon würde nicht helfen.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>simulated VRAM</source>
            <translation>simulierter Grafikspeicher</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>{size} more {vram} would change little, by prediction.</source>
            <translation>{size} mehr {vram} würden laut Vorhersage wenig ändern.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>{size} more {vram} would give +{share}, by prediction.</source>
            <translation>{size} mehr {vram}: vorhergesagt +{share}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>{measured} of {best}</source>
            <translation>{measured} von {best}</translation>
        </message>
        <message>
            <location filename="../../engine/experts/limits.py" />
            <source>{measured}, where one expert alone reached {best}</source>
            <translation>{measured}, wo ein Experte allein {best} erreichte</translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/limits.py" />
            <source>%n tokens at a time</source>
            <translation>
                <numerusform>%n Token</numerusform>
                <numerusform>%n Token auf einmal</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>There is no NVIDIA GPU with a working driver.</source>
            <translation>Es gibt keine NVIDIA-GPU mit funktionierendem Treiber.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Choose the CPU, or automatic, as the device.</source>
            <translation>Wählen Sie als Gerät die CPU oder „automatisch“.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Dense weights, KV cache, workspace and streaming need {needed} of VRAM, {available} available.</source>
            <translation>Dichte Gewichte, KV-Cache, Arbeitsspeicher und Übertragung brauchen {needed} Grafikspeicher, {available} sind verfügbar.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Raise the VRAM budget to at least {size}.</source>
            <translation>Erhöhen Sie das Grafikspeicher-Budget auf mindestens {size}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Shorten the context to {number} tokens.</source>
            <translation>Verkürzen Sie den Kontext auf {number} Token.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Close other programs that use the GPU: they hold {size}.</source>
            <translation>Schließen Sie andere Programme, die die GPU verwenden: Sie belegen {size}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Run this model on the CPU, or choose a smaller one.</source>
            <translation>Betreiben Sie dieses Modell auf der CPU oder wählen Sie ein kleineres.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>The model needs {needed} of RAM, {available} available (after {reserve} kept free).</source>
            <translation>Das Modell braucht {needed} RAM, {available} sind verfügbar ({reserve} bleiben frei).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Lower the simulated GPU's VRAM budget to {size}: it is taken from RAM.</source>
            <translation>Senken Sie das Grafikspeicher-Budget der simulierten GPU auf {size}: Es wird vom RAM genommen.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Close other programs: {size} of RAM is in use.</source>
            <translation>Schließen Sie andere Programme: {size} RAM sind in Gebrauch.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Choose a smaller model, or the same one with fewer bits per weight.</source>
            <translation>Wählen Sie ein kleineres Modell oder dasselbe mit weniger Bits je Gewicht.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/placement.py" />
            <source>Or keep the experts on disk (--experts-on-disk), about {speed}.</source>
            <translation>Oder lassen Sie die Experten auf dem Laufwerk (--experts-on-disk), etwa {speed}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>The model runs in transformers' own decoder, with its experts run from here: right, but slower around them, and the KV cache has the model's own precision.</source>
            <translation>Das Modell läuft im Decoder von transformers, seine Experten von hier aus: richtig, aber langsamer um sie herum, und der KV-Cache hat die Genauigkeit des Modells selbst.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>The context is cut from {asked} to {possible} tokens, the model's own limit.</source>
            <translation>Der Kontext ist von {asked} auf {possible} Token gekürzt, die Grenze des Modells selbst.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>No GPU is used: all {number} experts run on the CPU.</source>
            <translation>Es wird keine GPU verwendet: Alle {number} Experten laufen auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>Torch runs the GPU's experts, more slowly: our kernels there do not know experts with biases.</source>
            <translation>Torch rechnet die Experten der GPU, langsamer: Unsere Rechenkerne dort kennen keine Experten mit Bias.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>Each expert is placed in {number} parts, so that CPU and GPU can share one.</source>
            <translation>Jeder Experte liegt in {number} Teilen vor, damit CPU und GPU sich einen teilen können.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/reasons.py" />
            <source>While a prompt of more than {tokens} tokens is read, up to %n experts make way for its workspace.</source>
            <translation>
                <numerusform>Während eine Eingabe von mehr als {tokens} Token gelesen wird, macht %n Experte ihrem Arbeitsbereich Platz.</numerusform>
                <numerusform>Während eine Eingabe von mehr als {tokens} Token gelesen wird, machen bis zu %n Experten ihrem Arbeitsbereich Platz.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>{size} of experts in RAM are page-locked, the most that the system bears: the other {number} experts are computed on the CPU rather than copied, which would be slow.</source>
            <translation>{size} der Experten im RAM sind seitenfest, mehr verträgt das System nicht: Die anderen {number} Experten werden auf der CPU gerechnet statt kopiert, was langsam wäre.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>Budget {size}, chosen automatically: all that is free of {gpu}, less what is kept for others ({reserve}).</source>
            <translation>Budget {size}, automatisch gewählt: alles, was frei ist von {gpu}, ohne das, was für andere bleibt ({reserve}).</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>Budget {size}, chosen automatically: all that is free of {gpu}.</source>
            <translation>Budget {size}, automatisch gewählt: alles, was frei ist von {gpu}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>The budget of {asked} is cut to {free}: the GPU has {gpu}.</source>
            <translation>Das Budget von {asked} ist auf {free} gekürzt: Die GPU hat {gpu}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>Budget {size}, as set, of {gpu}.</source>
            <translation>Budget {size}, wie eingestellt, von {gpu}.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>{size} of {vram}</source>
            <translation>{size} {vram}</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>{size} of {vram}; other programs hold {used}</source>
            <translation>{size} {vram}; andere Programme belegen {used}</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>The GPU ran out of memory: {number} of {planned} planned experts live in VRAM</source>
            <translation>Der GPU ging der Speicher aus: {number} von {planned} geplanten Experten liegen im Grafikspeicher</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>and the context holds {number} tokens</source>
            <translation>und der Kontext fasst {number} Token</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>and the KV precision is {precision}</source>
            <translation>und die KV-Genauigkeit ist {precision}</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>{least} to {most}</source>
            <translation>{least} bis {most}</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>All {total} experts of {each} live in VRAM.</source>
            <translation>Alle {total} Experten von je {each} liegen im Grafikspeicher.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/reasons.py" />
            <source>{number} of {total} experts of {each} live in VRAM: dense weights, KV cache, workspace, streaming and margin take {rest} of the budget.</source>
            <translation>{number} von {total} Experten von je {each} liegen im Grafikspeicher: Dichte Gewichte, KV-Cache, Arbeitsspeicher, Übertragung und Reserve brauchen {rest} des Budgets.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/record.py" />
            <source>There is no GPU.</source>
            <translation>Es gibt keine GPU.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/regret.py" />
            <source>The latest uploads saved {saved} and cost {cost}; the next trial is %n tokens away.</source>
            <translation>
                <numerusform>Die letzten Umzüge sparten {saved} und kosteten {cost}; der nächste Versuch kommt in %n Token.</numerusform>
                <numerusform>Die letzten Umzüge sparten {saved} und kosteten {cost}; der nächste Versuch kommt in %n Token.</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../engine/experts/replacement.py" />
            <source>Every expert lives in VRAM.</source>
            <translation>Alle Experten liegen im Grafikspeicher.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/replacement.py" />
            <source>No layer has an expert in VRAM that could make room for another.</source>
            <translation>Keine Schicht hat einen Experten im Grafikspeicher, der einem anderen Platz machen könnte.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/replacement.py" />
            <source>An expert in VRAM saves no time here, as things are.</source>
            <translation>Ein Experte im Grafikspeicher spart hier zurzeit keine Zeit.</translation>
        </message>
        <message>
            <location filename="../../engine/experts/replacement.py" />
            <source>Copying an expert takes {cost} and a visit that finds it in VRAM saves {saving}: on this link an upload does not pay.</source>
            <translation>Einen Experten zu kopieren dauert {cost}, und ein Besuch, der ihn im Grafikspeicher findet, spart {saving}: Bei dieser Verbindung lohnt sich kein Umzug.</translation>
        </message>
        <message>
            <location filename="../../engine/folder_tokenizer.py" />
            <source>is {size} bytes long, over the limit of {max_bytes}</source>
            <translation>ist {size} Bytes lang, mehr als die Grenze von {max_bytes}</translation>
        </message>
        <message>
            <location filename="../../engine/folder_tokenizer.py" />
            <source>is not UTF-8 text</source>
            <translation>ist kein UTF-8-Text</translation>
        </message>
        <message>
            <location filename="../../engine/folder_tokenizer.py" />
            <source>is not a tokenizer: its steps make texts without end</source>
            <translation>ist kein Tokenizer: Seine Schritte machen Texte ohne Ende</translation>
        </message>
        <message>
            <location filename="../../engine/folder_tokenizer.py" />
            <source>is not a tokenizer: {error}</source>
            <translation>ist kein Tokenizer: {error}</translation>
        </message>
        <message>
            <location filename="../../engine/folder_tokenizer.py" />
            <source>has a chat_template that is no text</source>
            <translation>hat eine chat_template, die kein Text ist</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_pre_tokenizers.py" />
            <source>The GGUF file's pre-tokenizer {name} is not supported.</source>
            <translation>Der Vor-Tokenizer {name} der GGUF-Datei wird nicht unterstützt.</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_pre_tokenizers.py" />
            <source>Choose the safetensors version of the model, which brings its own tokenizer.json.</source>
            <translation>Wählen Sie die safetensors-Fassung des Modells, die ihre eigene tokenizer.json mitbringt.</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_tokenizer.py" />
            <source>The GGUF file has no tokenizer.</source>
            <translation>Die GGUF-Datei hat keinen Tokenizer.</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_tokenizer.py" />
            <source>Choose a GGUF file that holds a whole model.</source>
            <translation>Wählen Sie eine GGUF-Datei, die ein ganzes Modell enthält.</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_tokenizer.py" />
            <source>The GGUF file's tokenizer is of the kind {kind}, which is not supported.</source>
            <translation>Der Tokenizer der GGUF-Datei ist von der Art {kind}, die nicht unterstützt wird.</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_tokenizer.py" />
            <source>has too many long pieces</source>
            <translation>hat zu viele lange Teile</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_tokenizer.py" />
            <source>stands for over {most} merges</source>
            <translation>steht für über {most} Zusammenfügungen</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_tokenizer.py" />
            <source>is no text</source>
            <translation>ist kein Text</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_tokenizer.py" />
            <source>has {line}, which does not make a token out of two others</source>
            <translation>hat {line}, was kein Token aus zwei anderen macht</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>is empty</source>
            <translation>ist leer</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>has the token {repeated} twice</source>
            <translation>hat das Token {repeated} doppelt</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>marks {number} characters as special, over the limit of {most}</source>
            <translation>nennt {number} Zeichen besonders, mehr als die Grenze von {most}</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>is missing</source>
            <translation>fehlt</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>is no array of texts</source>
            <translation>ist keine Liste von Texten</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>has {number} entries, over the limit of {most}</source>
            <translation>hat {number} Einträge, mehr als die Grenze von {most}</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>has an entry of {number} characters, over the limit of {most}</source>
            <translation>hat einen Eintrag mit {number} Zeichen, mehr als die Grenze von {most}</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>has {number} characters, over the limit of {most}</source>
            <translation>hat {number} Zeichen, mehr als die Grenze von {most}</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>has a score that is not a number</source>
            <translation>hat eine Bewertung, die keine Zahl ist</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>is {value}, neither true nor false</source>
            <translation>ist {value}, weder wahr noch falsch</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>{key} in the GGUF file {what}.</source>
            <translation>{key} in der GGUF-Datei {what}.</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>is no array of numbers</source>
            <translation>ist keine Liste von Zahlen</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>has {number} entries for {count} tokens</source>
            <translation>hat {number} Einträge für {count} Token</translation>
        </message>
        <message>
            <location filename="../../engine/gguf_vocabulary.py" />
            <source>is {value}, not the id of one of its {count} tokens</source>
            <translation>ist {value}, nicht die Nummer eines der {count} Token</translation>
        </message>
        <message>
            <location filename="../../engine/gpu_packages.py" />
            <source>GPU support is there for torch {other}, and this Rooftop needs {version}.</source>
            <translation>Die GPU-Unterstützung ist für torch {other} da, und dieses Rooftop braucht {version}.</translation>
        </message>
        <message>
            <location filename="../../engine/gpu_packages.py" />
            <source>GPU support is damaged: what it holds cannot be read.</source>
            <translation>Die GPU-Unterstützung ist beschädigt: Was sie enthält, lässt sich nicht lesen.</translation>
        </message>
        <message>
            <location filename="../../engine/gpu_packages.py" />
            <source>GPU support is there for Python {other}, and this Rooftop runs on {version}.</source>
            <translation>Die GPU-Unterstützung ist für Python {other} da, und dieses Rooftop läuft mit {version}.</translation>
        </message>
        <message>
            <location filename="../../engine/gpu_packages.py" />
            <source>GPU support is damaged: {file} is missing or changed.</source>
            <translation>Die GPU-Unterstützung ist beschädigt: {file} fehlt oder ist verändert.</translation>
        </message>
        <message>
            <location filename="../../engine/gpu_packages.py" />
            <source>GPU support did not start.</source>
            <translation>Die GPU-Unterstützung ist nicht angelaufen.</translation>
        </message>
        <message>
            <location filename="../../engine/host.py" />
            <source>The engine is not running.</source>
            <translation>Die Engine läuft nicht.</translation>
        </message>
        <message>
            <location filename="../../engine/host.py" />
            <source>GPU support could not be used, so the CPU computes alone.</source>
            <translation>Die GPU-Unterstützung ließ sich nicht nutzen, daher rechnet die CPU allein.</translation>
        </message>
        <message>
            <location filename="../../engine/host.py" />
            <source>The engine process could not be started ({reason}).</source>
            <translation>Der Engine-Prozess ließ sich nicht starten ({reason}).</translation>
        </message>
        <message>
            <location filename="../../engine/host.py" />
            <source>The engine process ended unexpectedly ({how}).</source>
            <translation>Der Engine-Prozess endete unerwartet ({how}).</translation>
        </message>
        <message>
            <location filename="../../engine/host.py" />
            <source>killed; the system may have run out of memory</source>
            <translation>vom System beendet; vielleicht ging der Arbeitsspeicher aus</translation>
        </message>
        <message>
            <location filename="../../engine/host.py" />
            <source>signal {number}, {name}</source>
            <translation>Signal {number}, {name}</translation>
        </message>
        <message>
            <location filename="../../engine/host.py" />
            <source>Load the model again to go on; your chats are safe.</source>
            <translation>Laden Sie das Modell neu, um weiterzumachen; Ihre Chats sind sicher.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>{text} is not the name of a repository on the hub.</source>
            <translation>{text} ist kein Name eines Repositorys auf dem Hub.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>Write it as owner/name.</source>
            <translation>Schreiben Sie ihn als Besitzer/Name.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>The hub cannot be reached.</source>
            <translation>Der Hub ist nicht erreichbar.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>What answers at the hub's address is not the hub.</source>
            <translation>Was unter der Adresse des Hubs antwortet, ist nicht der Hub.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>{name} is open only to accounts that its publisher has let in.</source>
            <translation>{name} ist nur für Konten offen, die der Herausgeber zugelassen hat.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>Ask for access on its page on huggingface.co, then enter your token (as HF_TOKEN for the command).</source>
            <translation>Bitten Sie auf der Seite bei huggingface.co um Zugang und geben Sie dann Ihr Token ein (für den Befehl als HF_TOKEN).</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>{name} is not on the hub, or not any more, or it is private.</source>
            <translation>{name} ist nicht oder nicht mehr auf dem Hub, oder es ist privat.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>Check its name; for a private one enter your token.</source>
            <translation>Prüfen Sie den Namen; für ein privates Modell geben Sie Ihr Token ein.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>The hub asks to slow down.</source>
            <translation>Der Hub bittet um langsamere Anfragen.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>Wait a few minutes, then retry.</source>
            <translation>Warten Sie einige Minuten und versuchen Sie es noch einmal.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>The hub answered with error {status}.</source>
            <translation>Der Hub antwortete mit Fehler {status}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>The hub cannot be reached: {reason}.</source>
            <translation>Der Hub ist nicht erreichbar: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>The hub does not say which commit it speaks of.</source>
            <translation>Der Hub sagt nicht, von welchem Stand er spricht.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>{name} has {count} files, over the limit of {most}.</source>
            <translation>{name} hat {count} Dateien, mehr als die Grenze von {most}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/api.py" />
            <source>The hub does not say how large {file} is.</source>
            <translation>Der Hub sagt nicht, wie groß {file} ist.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/body.py" />
            <source>the connection was closed too early</source>
            <translation>die Verbindung wurde zu früh geschlossen</translation>
        </message>
        <message>
            <location filename="../../engine/hub/command.py" />
            <source>No file there fits {pattern}.</source>
            <translation>Dort passt keine Datei zu {pattern}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/command.py" />
            <source>Choose one of these with --file: {titles}.</source>
            <translation>Wählen Sie mit --file eine von diesen: {titles}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/command.py" />
            <source>Several models fit.</source>
            <translation>Mehrere Modelle passen.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/command.py" />
            <source>Choose one with --file: {titles}.</source>
            <translation>Wählen Sie eines mit --file: {titles}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>The proxy that is set on this computer cannot be used: {reason}.</source>
            <translation>Der auf diesem Rechner eingestellte Proxy kann nicht verwendet werden: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>Correct it in the system's settings or in HTTPS_PROXY, then start Rooftop again.</source>
            <translation>Berichtigen Sie ihn in den Systemeinstellungen oder in HTTPS_PROXY und starten Sie Rooftop dann neu.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>The certificates set in {names} cannot be read: {reason}.</source>
            <translation>Die in {names} angegebenen Zertifikate können nicht gelesen werden: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>Correct that, or leave it out, then start Rooftop again.</source>
            <translation>Berichtigen Sie das oder lassen Sie es weg und starten Sie Rooftop dann neu.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>the proxy {proxy} cannot be reached</source>
            <translation>der Proxy {proxy} ist nicht erreichbar</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>the proxy {proxy} says: {reason}</source>
            <translation>der Proxy {proxy} meldet: {reason}</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>The certificate of {host} is not valid yet on {today}, the date on this computer.</source>
            <translation>Das Zertifikat von {host} ist am {today}, dem Datum dieses Rechners, noch nicht gültig.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>Set this computer's clock, then retry.</source>
            <translation>Stellen Sie die Uhr dieses Rechners und versuchen Sie es dann erneut.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>The certificate of {host} has run out by {today}, the date on this computer.</source>
            <translation>Das Zertifikat von {host} ist am {today}, dem Datum dieses Rechners, abgelaufen.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>If that date is wrong, set the clock; otherwise retry when they have renewed it.</source>
            <translation>Wenn das Datum falsch ist, stellen Sie die Uhr; sonst versuchen Sie es erneut, wenn das Zertifikat erneuert ist.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>What answers for {host} has the certificate of another.</source>
            <translation>Was anstelle von {host} antwortet, hat das Zertifikat eines anderen.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>This computer does not trust the certificate of {host}; a company's network may show its own.</source>
            <translation>Dieser Rechner vertraut dem Zertifikat von {host} nicht; in einem Firmennetz kann es das der Firma sein.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>Add the company's certificate to the system's, or name its file in REQUESTS_CA_BUNDLE, then start again.</source>
            <translation>Fügen Sie das Zertifikat der Firma denen des Systems hinzu oder nennen Sie seine Datei in REQUESTS_CA_BUNDLE und starten Sie dann neu.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>The proxy {proxy} asks for a name and a password.</source>
            <translation>Der Proxy {proxy} verlangt einen Namen und ein Passwort.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>Write them into HTTPS_PROXY as http://name:password@host:port, then start Rooftop again.</source>
            <translation>Schreiben Sie beides in HTTPS_PROXY, als http://name:passwort@rechner:port, und starten Sie Rooftop dann neu.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>The proxy {proxy} does not let Rooftop reach {host}: {reason}.</source>
            <translation>Der Proxy {proxy} lässt Rooftop nicht zu {host}: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/connection.py" />
            <source>Ask whoever runs the network.</source>
            <translation>Fragen Sie, wer das Netz betreibt.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>The smallest one here: answers fast on any machine, and knows little.</source>
            <translation>Das kleinste hier: antwortet überall schnell und weiß wenig.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>Small and fully open, its training data too; 64 experts in each layer make a lively map.</source>
            <translation>Klein und ganz offen, auch die Trainingsdaten; 64 Experten je Schicht ergeben eine lebhafte Karte.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>OpenAI's open model: thinks before it answers, in the 4 bits that it was trained in.</source>
            <translation>Das offene Modell von OpenAI: denkt, bevor es antwortet, in den 4 Bit, in denen es trainiert wurde.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>Strong in many languages and fast: 3 of its 30 billion weights work on each token.</source>
            <translation>Stark in vielen Sprachen und schnell: 3 seiner 30 Milliarden Gewichte arbeiten an jedem Token.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>Microsoft's mixture of 16 experts; good at reasoning and at summing up long texts.</source>
            <translation>Microsofts Mischung aus 16 Experten; gut im Schließen und im Zusammenfassen langer Texte.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>What Fiddler was built for: 8 large experts, at home in five European languages.</source>
            <translation>Wofür Fiddler gebaut wurde: 8 große Experten, in fünf europäischen Sprachen zu Hause.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>The largest one here: for 48 GB of RAM or more.</source>
            <translation>Das größte hier: für 48 GB RAM oder mehr.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>{repo_id} has no file {pattern} any more.</source>
            <translation>{repo_id} hat keine Datei {pattern} mehr.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/curated.py" />
            <source>Choose one of its other files, or search for the model.</source>
            <translation>Wählen Sie eine der anderen Dateien oder suchen Sie nach dem Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>Choose another repository of this model.</source>
            <translation>Wählen Sie ein anderes Repository dieses Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>The repository holds a file called {path}, {reason}.</source>
            <translation>Das Repository enthält eine Datei namens {path}, {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>The repository's files {other} and {path} are one and the same on many drives.</source>
            <translation>Die Dateien {other} und {path} des Repositorys sind auf vielen Laufwerken ein und dieselbe.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>which is too long</source>
            <translation>was zu lang ist</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>with characters that no name should hold</source>
            <translation>mit Zeichen, die kein Name enthalten sollte</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>which is no file name on Windows</source>
            <translation>was unter Windows kein Dateiname ist</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>which could lead outside its folder</source>
            <translation>was aus dem Ordner hinausführen könnte</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>which is another name on Windows</source>
            <translation>was unter Windows ein anderer Name ist</translation>
        </message>
        <message>
            <location filename="../../engine/hub/names.py" />
            <source>which is a device on Windows</source>
            <translation>was unter Windows ein Gerät ist</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>{target} is there already.</source>
            <translation>{target} ist schon vorhanden.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>Delete it first to download this version.</source>
            <translation>Löschen Sie es zuerst, um diese Fassung herunterzuladen.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>The index of {repo_id} names {file}, which the repository lacks.</source>
            <translation>Das Verzeichnis von {repo_id} nennt {file}, das im Repository fehlt.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>The download needs {needed} on the drive of {folder}, which has {free} free.</source>
            <translation>Der Download braucht {needed} auf dem Laufwerk von {folder}; frei sind {free}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>Free some space there, or choose another models folder.</source>
            <translation>Schaffen Sie dort Platz oder wählen Sie einen anderen Modellordner.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>The drive of {parent} is full.</source>
            <translation>Das Laufwerk von {parent} ist voll.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>Free some space there, then resume; what has come is kept.</source>
            <translation>Schaffen Sie dort Platz und setzen Sie dann fort; was da ist, bleibt erhalten.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>{path} cannot be written or read: {reason}.</source>
            <translation>{path} lässt sich nicht schreiben oder lesen: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/parts.py" />
            <source>Check the drive, then resume; what has come is kept.</source>
            <translation>Prüfen Sie das Laufwerk und setzen Sie dann fort; was da ist, bleibt erhalten.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/places.py" />
            <source>Several models of {name} are here: {titles}.</source>
            <translation>Hier sind mehrere Modelle von {name}: {titles}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/places.py" />
            <source>Give one of them as {name}.</source>
            <translation>Geben Sie eines davon als {name} an.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/preview.py" />
            <source>its files end early</source>
            <translation>seine Dateien enden zu früh</translation>
        </message>
        <message>
            <location filename="../../engine/hub/preview.py" />
            <source>The hub does not tell what this model is like: {reason}.</source>
            <translation>Der Hub sagt nicht, wie dieses Modell beschaffen ist: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/repository.py" />
            <source>Choose a repository with GGUF or safetensors files.</source>
            <translation>Wählen Sie ein Repository mit GGUF- oder safetensors-Dateien.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/repository.py" />
            <source>{name} lacks some of the files of its model.</source>
            <translation>{name} fehlen einige Dateien des Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/repository.py" />
            <source>Choose another repository.</source>
            <translation>Wählen Sie ein anderes Repository.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/repository.py" />
            <source>{name} has safetensors files, but no {config} with {single} or {index} beside it.</source>
            <translation>{name} hat safetensors-Dateien, aber daneben keine {config} mit {single} oder {index}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/repository.py" />
            <source>{name} has its weights only as pickle files, which can run code and are never opened.</source>
            <translation>{name} hat seine Gewichte nur als Pickle-Dateien, die Code ausführen können und nie geöffnet werden.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/repository.py" />
            <source>{name} holds no model files that Rooftop reads.</source>
            <translation>{name} enthält keine Modelldateien, die Rooftop liest.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>nothing came for a while</source>
            <translation>eine Weile kam nichts</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>closed</source>
            <translation>geschlossen</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>The hub sends {path} over a connection that is not private.</source>
            <translation>Der Hub schickt {path} über eine Verbindung, die nicht vertraulich ist.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>The hub sends every request somewhere else.</source>
            <translation>Der Hub schickt jede Anfrage anderswohin.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>error {status}</source>
            <translation>Fehler {status}</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>{path} is shorter on the hub than it says.</source>
            <translation>{path} ist auf dem Hub kürzer, als er sagt.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>{path} is another one on the hub by now.</source>
            <translation>{path} ist auf dem Hub inzwischen eine andere Datei.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>Remove this download and start it again.</source>
            <translation>Entfernen Sie diesen Download und beginnen Sie ihn neu.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>an answer that is packed</source>
            <translation>eine gepackte Antwort</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>other bytes than were asked for</source>
            <translation>andere Bytes als verlangt</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>a page of text instead of the file</source>
            <translation>eine Textseite statt der Datei</translation>
        </message>
        <message>
            <location filename="../../engine/hub/source.py" />
            <source>{path} is {total} bytes long on its server instead of {size_bytes}.</source>
            <translation>{path} ist auf dem Server {total} Bytes lang statt {size_bytes}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>{file} came twice with bytes that are not the hub's.</source>
            <translation>{file} kam zweimal mit Bytes an, die nicht die des Hubs sind.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>Retry later, or from another network.</source>
            <translation>Versuchen Sie es später oder aus einem anderen Netz noch einmal.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>The download is paused.</source>
            <translation>Der Download ist angehalten.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>Another Rooftop is downloading this model now.</source>
            <translation>Ein anderes Rooftop lädt dieses Modell gerade herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>The models folder cannot be used: {reason}.</source>
            <translation>Der Modellordner ist nicht verwendbar: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>Choose another one.</source>
            <translation>Wählen Sie einen anderen.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>The download broke off {failures} times in a row: {reason}.</source>
            <translation>Der Download brach {failures}-mal hintereinander ab: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>Check your connection, then resume it; what has come is kept.</source>
            <translation>Prüfen Sie Ihre Verbindung und setzen Sie ihn fort; was da ist, bleibt erhalten.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>The download broke off unexpectedly.</source>
            <translation>Der Download brach unerwartet ab.</translation>
        </message>
        <message>
            <location filename="../../engine/hub/transfer.py" />
            <source>Resume it; what has come is kept.</source>
            <translation>Setzen Sie ihn fort; was da ist, bleibt erhalten.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cpu_library.py" />
            <source>This processor and build have no {wanted} kernels.</source>
            <translation>Dieser Prozessor und diese Fassung haben keine {wanted}-Rechenkerne.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cpu_library.py" />
            <source>Choose one of {choices}.</source>
            <translation>Wählen Sie eines von {choices}.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cpu_library.py" />
            <source>The system did not give {threads} threads for the CPU kernels.</source>
            <translation>Das System gab keine {threads} Threads für die CPU-Rechenkerne her.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cpu_library.py" />
            <source>Choose fewer CPU threads.</source>
            <translation>Wählen Sie weniger CPU-Threads.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cpu_library.py" />
            <source>The system did not give the CPU kernels memory to work in.</source>
            <translation>Das System gab den CPU-Rechenkernen keinen Speicher zum Arbeiten.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cpu_library.py" />
            <source>Close other programs, or shorten the context in the settings.</source>
            <translation>Schließen Sie andere Programme oder verkürzen Sie den Kontext in den Einstellungen.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cuda_driver.py" />
            <source>The driver is too old for {name}.</source>
            <translation>Der Treiber ist zu alt für {name}.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/cuda_driver.py" />
            <source>{library} cannot be loaded: {reason}.</source>
            <translation>{library} lässt sich nicht laden: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_decoder_self_test.py" />
            <source>norm</source>
            <translation>Norm</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_decoder_self_test.py" />
            <source>choice of experts</source>
            <translation>Wahl der Experten</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_decoder_self_test.py" />
            <source>rotation</source>
            <translation>Rotation</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_decoder_self_test.py" />
            <source>attention</source>
            <translation>Attention</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_decoder_self_test.py" />
            <source>The GPU's {kind} with {tokens} tokens is off by {error}, the limit is {limit}.</source>
            <translation>Ergebnis der GPU für {kind} mit {tokens} Token: {error} daneben, die Grenze ist {limit}.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_kernels.py" />
            <source>The GPU kernels of {program} failed: {reason}</source>
            <translation>Die GPU-Rechenkerne von {program} versagten: {reason}</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_kernels.py" />
            <source>The GPU has compute capability {found}, {oldest} is the oldest.</source>
            <translation>Die GPU hat die Compute Capability {found}, {oldest} ist die älteste unterstützte.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_self_test.py" />
            <source>product</source>
            <translation>Produkt</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_self_test.py" />
            <source>experts</source>
            <translation>Experten</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_self_test.py" />
            <source>The GPU's {kind} in {format} with {tokens} tokens is off by {error}, the limit is {limit}.</source>
            <translation>Ergebnis der GPU für {kind} in {format} mit {tokens} Token: {error} daneben, die Grenze ist {limit}.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_self_test.py" />
            <source>The GPU unpacks {format} to other weights than torch does.</source>
            <translation>Die GPU entpackt {format} zu anderen Gewichten als Torch.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/gpu_self_test.py" />
            <source>The GPU's experts in {formats} with {tokens} tokens are off by {error}, the limit is {limit}.</source>
            <translation>Ergebnis der GPU für Experten in {formats} mit {tokens} Token: {error} daneben, die Grenze ist {limit}.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/nvrtc.py" />
            <source>NVRTC {version} makes code for compute capability {oldest} and above.</source>
            <translation>NVRTC {version} erzeugt Code erst ab Compute Capability {oldest}.</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/nvrtc.py" />
            <source>no reason given</source>
            <translation>kein Grund angegeben</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/nvrtc.py" />
            <source>{name} does not compile for {target}: {reason}</source>
            <translation>{name} lässt sich nicht für {target} übersetzen: {reason}</translation>
        </message>
        <message>
            <location filename="../../engine/kernels/nvrtc.py" />
            <source>NVRTC cannot be loaded: {reason}.</source>
            <translation>NVRTC lässt sich nicht laden: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/loaded_model.py" />
            <source>{device} has no memory left to compute in, with no expert on it any more.</source>
            <translation>{device}: kein Speicher mehr zum Rechnen, obwohl kein Experte mehr dort liegt.</translation>
        </message>
        <message>
            <location filename="../../engine/loaded_model.py" />
            <source>Close other programs that use the GPU, or shorten the context.</source>
            <translation>Schließen Sie andere Programme, die die GPU verwenden, oder verkürzen Sie den Kontext.</translation>
        </message>
        <message>
            <location filename="../../engine/loading.py" />
            <source>Loading was stopped.</source>
            <translation>Das Laden wurde angehalten.</translation>
        </message>
        <message>
            <location filename="../../engine/loading.py" />
            <source>Open a model to go on.</source>
            <translation>Öffnen Sie ein Modell, um weiterzumachen.</translation>
        </message>
        <message>
            <location filename="../../engine/model/compatible_weights.py" />
            <source>layer {number}</source>
            <translation>Schicht {number}</translation>
        </message>
        <message>
            <location filename="../../engine/model/compatible_weights.py" />
            <source>The architecture {family} is not supported: its experts cannot be run from here.</source>
            <translation>Die Architektur {family} wird nicht unterstützt: Ihre Experten lassen sich nicht von hier aus betreiben.</translation>
        </message>
        <message>
            <location filename="../../engine/model/compatible_weights.py" />
            <source>config.json and the weights do not fit together at {name}.</source>
            <translation>config.json und die Gewichte passen bei {name} nicht zusammen.</translation>
        </message>
        <message>
            <location filename="../../engine/model/gpu_steps.py" />
            <source>Torch runs the GPU's decode steps: our kernels do not know what {family} adds.</source>
            <translation>Torch rechnet die Antwortschritte der GPU: Unsere Rechenkerne kennen nicht, was {family} hinzufügt.</translation>
        </message>
        <message>
            <location filename="../../engine/model/gpu_steps.py" />
            <source>Torch runs the GPU's decode steps: our kernels do not read a KV cache in {format}.</source>
            <translation>Torch rechnet die Antwortschritte der GPU: Unsere Rechenkerne lesen keinen KV-Cache in {format}.</translation>
        </message>
        <message>
            <location filename="../../engine/model/gpu_steps.py" />
            <source>Torch runs the GPU's decode steps: our kernels do not know the shape of this model's layers.</source>
            <translation>Torch rechnet die Antwortschritte der GPU: Unsere Rechenkerne kennen die Form der Schichten dieses Modells nicht.</translation>
        </message>
        <message>
            <location filename="../../engine/model/gpu_steps.py" />
            <source>Decode steps are launched one by one: there are no CUDA graphs ({reason}).</source>
            <translation>Antwortschritte werden einzeln gestartet: Es gibt keine CUDA-Graphen ({reason}).</translation>
        </message>
        <message>
            <location filename="../../engine/model/gpu_steps.py" />
            <source>Decode steps are launched one by one: CUDA graphs take {taken} bytes of {counted}.</source>
            <translation>Antwortschritte werden einzeln gestartet: CUDA-Graphen brauchen {taken} Bytes von {counted}.</translation>
        </message>
        <message>
            <location filename="../../engine/model/step_trial.py" />
            <source>Torch runs the GPU's decode steps, more slowly than our kernels would: {reason}</source>
            <translation>Torch rechnet die Antwortschritte der GPU, langsamer als unsere Rechenkerne es täten: {reason}</translation>
        </message>
        <message>
            <location filename="../../engine/model/step_trial.py" />
            <source>The GPU's decode steps are off by {error}, the limit is {limit}.</source>
            <translation>Die Antwortschritte der GPU liegen um {error} daneben, die Grenze ist {limit}.</translation>
        </message>
        <message>
            <location filename="../../engine/model/weight_reader.py" />
            <source>{file} holds NaN or infinite weights in {name}.</source>
            <translation>{file} enthält NaN oder unendliche Gewichte in {name}.</translation>
        </message>
        <message>
            <location filename="../../engine/model/weight_reader.py" />
            <source>Download that file again; if it stays so, the model itself is damaged.</source>
            <translation>Laden Sie diese Datei neu herunter; wenn es so bleibt, ist das Modell selbst beschädigt.</translation>
        </message>
        <message>
            <location filename="../../engine/pipe.py" />
            <source>a message has {number} bytes and {most} is the limit</source>
            <translation>eine Nachricht hat {number} Bytes, und {most} sind die Grenze</translation>
        </message>
        <message>
            <location filename="../../engine/pipe.py" />
            <source>a message claims {number} bytes and {most} is the limit</source>
            <translation>eine Nachricht gibt {number} Bytes an, und {most} sind die Grenze</translation>
        </message>
        <message>
            <location filename="../../engine/pipe.py" />
            <source>a {name} is no message</source>
            <translation>{name} ist keine Nachricht</translation>
        </message>
        <message>
            <location filename="../../engine/pipe.py" />
            <source>The engine and the window do not understand each other: {reason}.</source>
            <translation>Engine und Fenster verstehen einander nicht: {reason}.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>The prompt is empty.</source>
            <translation>Die Eingabe ist leer.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>Write a message first.</source>
            <translation>Schreiben Sie zuerst eine Nachricht.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>A token id is outside this model's vocabulary of {vocab_size}.</source>
            <translation>Eine Token-Nummer liegt außerhalb des Vokabulars von {vocab_size} dieses Modells.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>Use the tokenizer that came with the model.</source>
            <translation>Verwenden Sie den Tokenizer, der zum Modell gehört.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>The prompt has {number} tokens and the context holds {capacity}.</source>
            <translation>Die Eingabe hat {number} Token, und der Kontext fasst {capacity}.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>Shorten the conversation, start a new chat, or raise the context length in the settings.</source>
            <translation>Kürzen Sie das Gespräch, beginnen Sie einen neuen Chat oder erhöhen Sie die Kontextlänge in den Einstellungen.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>Token ids cannot be bound to a schema.</source>
            <translation>Token-Nummern lassen sich nicht an ein Schema binden.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>Give the prompt as text.</source>
            <translation>Geben Sie die Eingabe als Text an.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>A message has role {role}.</source>
            <translation>Eine Nachricht hat die Rolle {role}.</translation>
        </message>
        <message>
            <location filename="../../engine/prompts.py" />
            <source>Give each message a role (system, user, assistant) and a text.</source>
            <translation>Geben Sie jeder Nachricht eine Rolle (system, user, assistant) und einen Text.</translation>
        </message>
        <message>
            <location filename="../../engine/sampling.py" />
            <source>The model's scores are not finite numbers.</source>
            <translation>Die Bewertungen des Modells sind keine endlichen Zahlen.</translation>
        </message>
        <message>
            <location filename="../../engine/sampling.py" />
            <source>Load the model again; if it happens again, its files are damaged: download them again.</source>
            <translation>Laden Sie das Modell neu; wenn es wieder geschieht, sind seine Dateien beschädigt: Laden Sie sie neu herunter.</translation>
        </message>
        <message>
            <location filename="../../engine/sampling_options.py" />
            <source>{option}: {name} cannot be read ({reason}).</source>
            <translation>{option}: {name} lässt sich nicht lesen ({reason}).</translation>
        </message>
        <message>
            <location filename="../../engine/sampling_options.py" />
            <source>Choose another file.</source>
            <translation>Wählen Sie eine andere Datei.</translation>
        </message>
        <message>
            <location filename="../../engine/sampling_options.py" />
            <source>{option}: {name} is not UTF-8 text.</source>
            <translation>{option}: {name} ist kein UTF-8-Text.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>{name} is {value}, outside {low} to {high}.</source>
            <translation>{name} ist {value}, nicht {low} bis {high}.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Choose {name} in that range.</source>
            <translation>Wählen Sie {name} in diesem Bereich.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>The stop texts are not a list of texts.</source>
            <translation>Die Stopptexte sind keine Liste von Texten.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Give a list of texts.</source>
            <translation>Geben Sie eine Liste von Texten an.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>There are {number} stop texts of up to {length} characters; {most} of {longest} are the limit.</source>
            <translation>Es gibt {number} Stopptexte mit bis zu {length} Zeichen; die Grenze sind {most} mit {longest}.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Use fewer or shorter ones.</source>
            <translation>Verwenden Sie weniger oder kürzere.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>The {name} is empty.</source>
            <translation>{name}: kein Inhalt.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Give a {name}, or none.</source>
            <translation>Geben Sie etwas an ({name}) oder lassen Sie es weg.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>The {name} has {number} characters; {most} are the limit.</source>
            <translation>{name}: {number} Zeichen, die Grenze ist {most}.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Use a shorter one.</source>
            <translation>Kürzen Sie den Text.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>The JSON schema is not valid JSON.</source>
            <translation>Das JSON-Schema ist kein gültiges JSON.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>The JSON schema is not valid JSON (line {line}, column {column}).</source>
            <translation>Das JSON-Schema ist kein gültiges JSON (Zeile {line}, Spalte {column}).</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Mend the schema.</source>
            <translation>Berichtigen Sie das Schema.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>The JSON schema is nested too deeply.</source>
            <translation>Das JSON-Schema ist zu tief verschachtelt.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Use a flatter one.</source>
            <translation>Verwenden Sie ein flacheres.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>The JSON schema is not an object.</source>
            <translation>Das JSON-Schema ist kein Objekt.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>Write one such as {example}.</source>
            <translation>Schreiben Sie eines wie {example}.</translation>
        </message>
        <message>
            <location filename="../../engine/setting_limits.py" />
            <source>{name} is {value}.</source>
            <translation>{name} ist {value}.</translation>
        </message>
        <message>
            <location filename="../../engine/sizes.py" />
            <source>{text} is not a size.</source>
            <translation>{text} ist keine Größe.</translation>
        </message>
        <message>
            <location filename="../../engine/sizes.py" />
            <source>Write a number and a unit, such as 8GiB or 512MiB.</source>
            <translation>Schreiben Sie eine Zahl und eine Einheit, etwa 8GiB oder 512MiB.</translation>
        </message>
        <message>
            <location filename="../../engine/sizes.py" />
            <source>{text} is more than any machine has.</source>
            <translation>{text} ist mehr, als irgendein Rechner hat.</translation>
        </message>
        <message>
            <location filename="../../engine/sizes.py" />
            <source>Write a smaller size, such as 8GiB.</source>
            <translation>Schreiben Sie eine kleinere Größe, etwa 8GiB.</translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/sizes.py" />
            <source>%n bytes</source>
            <translation>
                <numerusform>%n Byte</numerusform>
                <numerusform>%n Byte</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it makes a value of more than {limit} characters</source>
            <translation>sie erzeugt einen Wert mit mehr als {limit} Zeichen</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it makes more than {limit} characters of values</source>
            <translation>sie erzeugt Werte mit mehr als {limit} Zeichen</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it prints more than {limit} characters</source>
            <translation>sie gibt mehr als {limit} Zeichen aus</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it calls str.{name}</source>
            <translation>sie ruft str.{name} auf</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it calls {kind}.{name}</source>
            <translation>sie ruft {kind}.{name} auf</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it uses a format with computed or large widths</source>
            <translation>sie verwendet ein Format mit berechneten oder großen Breiten</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it uses a date format of more than {limit} characters</source>
            <translation>sie verwendet ein Datumsformat mit mehr als {limit} Zeichen</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it sums values that are not numbers</source>
            <translation>sie addiert Werte, die keine Zahlen sind</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it rounds to {precision} digits</source>
            <translation>sie rundet auf {precision} Stellen</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it searches for {number} characters</source>
            <translation>sie sucht nach {number} Zeichen</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it stores the underscore name {name}</source>
            <translation>sie speichert den Namen {name} mit Unterstrich</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it makes an integer of {bits} bits</source>
            <translation>sie erzeugt eine ganze Zahl mit {bits} Bits</translation>
        </message>
        <message>
            <location filename="../../engine/template_sandbox.py" />
            <source>it stores a {kind} inside another value</source>
            <translation>sie legt {kind} in einem anderen Wert ab</translation>
        </message>
        <message>
            <location filename="../../engine/tokenizer.py" />
            <source>The conversation does not end with a reply.</source>
            <translation>Das Gespräch endet nicht mit einer Antwort.</translation>
        </message>
        <message>
            <location filename="../../engine/tokenizer.py" />
            <source>Write a message instead.</source>
            <translation>Schreiben Sie stattdessen eine Nachricht.</translation>
        </message>
        <message>
            <location filename="../../engine/tokenizer.py" />
            <source>The conversation is empty.</source>
            <translation>Das Gespräch ist leer.</translation>
        </message>
        <message>
            <location filename="../../engine/tokenizer_parts.py" />
            <source>The model's tokenizer fails: {error}.</source>
            <translation>Der Tokenizer des Modells versagt: {error}.</translation>
        </message>
        <message>
            <location filename="../../engine/tokenizer_parts.py" />
            <source>Download the model again, or use one with a sound tokenizer.</source>
            <translation>Laden Sie das Modell neu herunter oder verwenden Sie eines mit einem brauchbaren Tokenizer.</translation>
        </message>
        <message>
            <location filename="../../engine/worker.py" />
            <source>Choose a model first.</source>
            <translation>Wählen Sie zuerst ein Modell.</translation>
        </message>
        <message>
            <location filename="../../engine/worker.py" />
            <source>The work was cancelled before it began.</source>
            <translation>Die Arbeit wurde abgebrochen, bevor sie begann.</translation>
        </message>
        <message>
            <location filename="../../engine/worker.py" />
            <source>Start it again when you want it.</source>
            <translation>Starten Sie sie wieder, wenn Sie möchten.</translation>
        </message>
        <message>
            <location filename="../../engine/worker.py" />
            <source>Something unexpected went wrong in the engine ({what}).</source>
            <translation>In der Engine ist etwas Unerwartetes schiefgegangen ({what}).</translation>
        </message>
        <message>
            <location filename="../../engine/worker.py" />
            <source>Try again; if it happens again, load the model anew and report the log.</source>
            <translation>Versuchen Sie es noch einmal; wenn es wieder geschieht, laden Sie das Modell neu und melden Sie das Protokoll.</translation>
        </message>
        <message>
            <location filename="../../engine/worker.py" />
            <source>A {name} is no request.</source>
            <translation>{name} ist keine Anfrage.</translation>
        </message>
    </context>
</TS>
