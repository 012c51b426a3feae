<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de" sourcelanguage="en">
    <context>
        <name>Rooftop</name>
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
            <source>Try again</source>
            <translation>Erneut versuchen</translation>
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
            <translation>„{name}“ kann nicht gelesen werden ({reason}).</translation>
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
            <translation>Hängen Sie nur den Teil an, auf den es ankommt.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” holds no text.</source>
            <translation>„{name}“ enthält keinen Text.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Attach another file.</source>
            <translation>Hängen Sie eine andere Datei an.</translation>
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
            <translation>Text-, Code- und PDF-Dateien können angehängt werden; speichern Sie sie als eine davon.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” could not be read in {seconds} seconds.</source>
            <translation>„{name}“ konnte nicht in {seconds} Sekunden gelesen werden.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Save the pages that matter as a file of their own.</source>
            <translation>Speichern Sie die Seiten, auf die es ankommt, als eigene Datei.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>“{name}” is protected by a password.</source>
            <translation>„{name}“ ist durch ein Passwort geschützt.</translation>
        </message>
        <message>
            <location filename="../../app/attachments.py" />
            <source>Save a copy without one in your PDF viewer and attach that.</source>
            <translation>Speichern Sie im PDF-Programm eine Kopie ohne Passwort und hängen Sie diese an.</translation>
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
        <message numerus="yes">
            <location filename="../../app/units.py" />
            <source>%n bytes</source>
            <translation>
                <numerusform>%n Byte</numerusform>
                <numerusform>%n Byte</numerusform>
            </translation>
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
            <source>{number}%</source>
            <translation>{number} %</translation>
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
            <source>Model</source>
            <translation>Modell</translation>
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
            <translation>Zeigen, was das Modell davon liest</translation>
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
            <location filename="../../app/widgets/banner.py" />
            <source>Dismiss</source>
            <translation>Schließen</translation>
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
            <translation>Höchstens {count} Dateien können angehängt werden; entfernen Sie zuerst welche.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Edit</source>
            <translation>Bearbeiten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Leave out the oldest messages and send</source>
            <translation>Älteste Nachrichten weglassen und senden</translation>
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
            <source>Esc stops the reply; you can already write your next message</source>
            <translation>Esc hält die Antwort an; Sie können schon die nächste Nachricht schreiben</translation>
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
            <source>Restart engine</source>
            <translation>Rechenwerk neu starten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Open another model</source>
            <translation>Anderes Modell öffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Settings</source>
            <translation>Einstellungen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Load again</source>
            <translation>Erneut laden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Loading was cancelled.</source>
            <translation>Das Laden wurde abgebrochen.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_pane.py" />
            <source>Keep experts on disk and load</source>
            <translation>Mit Experten auf dem Laufwerk laden</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Attach files</source>
            <translation>Dateien anhängen</translation>
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
            <translation>Die Antwort hat vielleicht nicht den Platz, der für sie frei gehalten wird.</translation>
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
            <translation>Chat-Vorlage</translation>
        </message>
        <message>
            <location filename="../../app/widgets/context_meter.py" />
            <source>Kept for the reply</source>
            <translation>Für die Antwort frei gehalten</translation>
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
            <location filename="../../app/widgets/find_bar.py" />
            <source>Find in this chat</source>
            <translation>In diesem Chat suchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Previous match (Shift+Enter)</source>
            <translation>Vorheriger Treffer (Umschalt+Eingabe)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Next match (Enter)</source>
            <translation>Nächster Treffer (Eingabe)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Close (Esc)</source>
            <translation>Schließen (Esc)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/find_bar.py" />
            <source>Searching…</source>
            <translation>Suche läuft …</translation>
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
            <translation>Rechenwerk für {model} wird gestartet</translation>
        </message>
        <message>
            <location filename="../../app/widgets/loading_bar.py" />
            <source>{done} of {total}</source>
            <translation>{done} von {total}</translation>
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
            <location filename="../../app/widgets/main_window.py" />
            <source>Menu</source>
            <translation>Menü</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;File</source>
            <translation>&amp;Datei</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;View</source>
            <translation>&amp;Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Help</source>
            <translation>&amp;Hilfe</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Stop the reply, or take a waiting message back</source>
            <translation>Antwort anhalten oder wartende Nachricht zurücknehmen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Next match in this chat</source>
            <translation>Nächster Treffer in diesem Chat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Previous match in this chat</source>
            <translation>Vorheriger Treffer in diesem Chat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Go to the message field</source>
            <translation>Zum Nachrichtenfeld</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Find in chat…</source>
            <translation>Im Chat &amp;suchen …</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Attach files…</source>
            <translation>Dateien an&amp;hängen …</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Open model file (.gguf)…</source>
            <translation>Modelldatei ö&amp;ffnen (.gguf)…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Open model &amp;folder…</source>
            <translation>Modell&amp;ordner öffnen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Settings…</source>
            <translation>&amp;Einstellungen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Live panel</source>
            <translation>&amp;Live-Ansicht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Theme</source>
            <translation>&amp;Farbschema</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>As the &amp;system</source>
            <translation>Wie das &amp;System</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Light</source>
            <translation>&amp;Hell</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Dark</source>
            <translation>&amp;Dunkel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Keep in the &amp;tray when closed</source>
            <translation>Beim Schließen im &amp;Infobereich behalten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>L&amp;arger text</source>
            <translation>&amp;Größere Schrift</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>S&amp;maller text</source>
            <translation>&amp;Kleinere Schrift</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>N&amp;ormal text</source>
            <translation>&amp;Normale Schrift</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Keyboard shortcuts</source>
            <translation>&amp;Tastenkürzel</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;About Rooftop</source>
            <translation>&amp;Über Rooftop</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Show all: {count} more characters</source>
            <translation>Alles zeigen: {count} weitere Zeichen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Show all</source>
            <translation>Alles zeigen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Show the whole message</source>
            <translation>Die ganze Nachricht zeigen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Message</source>
            <translation>Nachricht</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/message_view.py" />
            <source>Written without %n older messages, which no longer fit</source>
            <translation>
                <numerusform>Ohne %n ältere Nachricht geschrieben, die nicht mehr passt</numerusform>
                <numerusform>Ohne %n ältere Nachrichten geschrieben, die nicht mehr passen</numerusform>
            </translation>
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
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thoughts</source>
            <translation>Gedanken</translation>
        </message>
        <message>
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thinking…</source>
            <translation>Denkt nach …</translation>
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
                <numerusform>%n Wort nachgedacht</numerusform>
                <numerusform>%n Wörter nachgedacht</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Device</source>
            <translation>Gerät</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Speed</source>
            <translation>Geschwindigkeit</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Time to first token</source>
            <translation>Zeit bis zum ersten Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>New chat (Ctrl+N)</source>
            <translation>Neuer Chat (Strg+N)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/top_bar.py" />
            <source>Live panel (Ctrl+B)</source>
            <translation>Live-Ansicht (Strg+B)</translation>
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
            <source>first token {time}</source>
            <translation>erstes Token {time}</translation>
        </message>
    </context>
</TS>
