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
            <source>no chats of Rooftop or LM Studio</source>
            <translation>keine Chats von Rooftop oder LM Studio</translation>
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
            <source>Choose a file that Rooftop or LM Studio exported.</source>
            <translation>Wählen Sie eine Datei, die Rooftop oder LM Studio exportiert hat.</translation>
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
            <source>Yesterday</source>
            <translation>Gestern</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>Previous 7 days</source>
            <translation>Letzte 7 Tage</translation>
        </message>
        <message>
            <location filename="../../app/chat_list.py" />
            <source>Older</source>
            <translation>Älter</translation>
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
            <location filename="../../app/engine_client.py" />
            <source>The model is being loaded again; the reply so far is kept.</source>
            <translation>Das Modell wird neu geladen; die bisherige Antwort bleibt erhalten.</translation>
        </message>
        <message>
            <location filename="../../app/engine_client.py" />
            <source>The GPU stopped working: the model was loaded again and runs on the CPU.</source>
            <translation>Die GPU fiel aus: Das Modell wurde neu geladen und läuft auf der CPU.</translation>
        </message>
        <message>
            <location filename="../../app/engine_client.py" />
            <source>The GPU stopped working and is back: the model was loaded again.</source>
            <translation>Die GPU fiel aus und ist wieder da: Das Modell wurde neu geladen.</translation>
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
        <message>
            <location filename="../../app/preset_files.py" />
            <source>Check the folder's permissions and the free space on its drive.</source>
            <translation>Prüfen Sie die Zugriffsrechte des Ordners und den freien Platz auf seinem Laufwerk.</translation>
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
            <location filename="../../app/widgets/banner.py" />
            <source>Dismiss</source>
            <translation>Schließen</translation>
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
            <source>VRAM budget</source>
            <translation>VRAM-Budget</translation>
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
            <source>Chat deleted</source>
            <translation>Chat gelöscht</translation>
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
            <source>Import chats of Rooftop or LM Studio</source>
            <translation>Chats von Rooftop oder LM Studio importieren</translation>
        </message>
        <message>
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Chats (*.json)</source>
            <translation>Chats (*.json)</translation>
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
            <source>Edit</source>
            <translation>Bearbeiten</translation>
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
            <translation>Engine neu starten</translation>
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
            <source>Send (Ctrl+Enter)</source>
            <translation>Senden (Strg+Enter)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/composer.py" />
            <source>Message</source>
            <translation>Nachricht</translation>
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
            <source>Live panel</source>
            <translation>Live-Ansicht</translation>
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
            <source>No model is loaded.</source>
            <translation>Kein Modell ist geladen.</translation>
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
            <source>Layer {number}</source>
            <translation>Schicht {number}</translation>
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
            <location filename="../../app/widgets/limit_line.py" />
            <source>What limits the speed now</source>
            <translation>Was die Geschwindigkeit gerade begrenzt</translation>
        </message>
        <message>
            <location filename="../../app/widgets/limit_line.py" />
            <source>Nothing has run yet.</source>
            <translation>Noch ist nichts gelaufen.</translation>
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
            <source>Search chats</source>
            <translation>Chats durchsuchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>The chat above</source>
            <translation>Der Chat darüber</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>The chat below</source>
            <translation>Der Chat darunter</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Fin&amp;d in chat…</source>
            <translation>Im Chat s&amp;uchen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>A&amp;ttach files…</source>
            <translation>Dateien an&amp;hängen…</translation>
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
            <source>&amp;Import chats…</source>
            <translation>Chats &amp;importieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Export this chat…</source>
            <translation>Diesen Chat e&amp;xportieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Export &amp;all chats…</source>
            <translation>&amp;Alle Chats exportieren…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Undo delete chat</source>
            <translation>&amp;Löschen des Chats rückgängig</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Save live panel as &amp;picture…</source>
            <translation>Live-Ansicht als Bil&amp;d speichern…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>Save live panel's &amp;values…</source>
            <translation>&amp;Werte der Live-Ansicht speichern…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Chat options…</source>
            <translation>&amp;Chat-Optionen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Settings…</source>
            <translation>&amp;Einstellungen…</translation>
        </message>
        <message>
            <location filename="../../app/widgets/main_window.py" />
            <source>&amp;Chats</source>
            <translation>&amp;Chats</translation>
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
            <source>&amp;Keep in the tray when closed</source>
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
            <location filename="../../app/widgets/map_legend.py" />
            <source>Legend of the expert map</source>
            <translation>Legende der Expertenkarte</translation>
        </message>
        <message>
            <location filename="../../app/widgets/map_legend.py" />
            <source>The more a cell stands out, the more recently its expert was used.</source>
            <translation>Je stärker eine Zelle hervortritt, desto kürzlicher wurde ihr Experte benutzt.</translation>
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
            <source>Experts on disk</source>
            <translation>Experten auf der Platte</translation>
        </message>
        <message>
            <location filename="../../app/widgets/memory_content.py" />
            <source>Read from a file as they are used. The system keeps the latest in memory that is free.</source>
            <translation>Werden bei Gebrauch aus einer Datei gelesen. Das System behält die letzten in freiem Speicher.</translation>
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
            <location filename="../../app/widgets/message_view.py" />
            <source>Your message</source>
            <translation>Ihre Nachricht</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Show all: {count} more characters</source>
            <translation>Alles anzeigen: {count} weitere Zeichen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Show all</source>
            <translation>Alles zeigen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Show the whole message</source>
            <translation>Ganze Nachricht anzeigen</translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/message_view.py" />
            <source>Written without %n older messages, which no longer fit</source>
            <translation>
                <numerusform>Geschrieben ohne %n ältere Nachricht, die nicht mehr hineinpasst</numerusform>
                <numerusform>Geschrieben ohne %n ältere Nachrichten, die nicht mehr hineinpassen</numerusform>
            </translation>
        </message>
        <message>
            <location filename="../../app/widgets/message_view.py" />
            <source>Broke off: Rooftop was closed</source>
            <translation>Abgebrochen: Rooftop wurde geschlossen</translation>
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
            <location filename="../../app/widgets/rate_bars.py" />
            <source>{rate} / {best}</source>
            <translation>{rate} / {best}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/rate_bars.py" />
            <source>simulated GPU</source>
            <translation>simulierte GPU</translation>
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
            <source>Policy</source>
            <translation>Strategie</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>Automatic: the best that the CPU has</source>
            <translation>Automatisch: die besten, die die CPU hat</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/advanced_page.py" />
            <source>CPU kernels</source>
            <translation>CPU-Rechenkerne</translation>
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
            <source>What sends a message</source>
            <translation>Was eine Nachricht sendet</translation>
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
            <source>When a chat outgrows the context</source>
            <translation>Wenn ein Chat über den Kontext hinauswächst</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/chat_page.py" />
            <source>&amp;Full context</source>
            <translation>&amp;Voller Kontext</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Search</source>
            <translation>Suchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Search the settings</source>
            <translation>Einstellungen durchsuchen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/dialog.py" />
            <source>Pages</source>
            <translation>Seiten</translation>
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
            <source>Language</source>
            <translation>Sprache</translation>
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
            <source>Theme</source>
            <translation>Farbschema</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/general_page.py" />
            <source>Text size</source>
            <translation>Schriftgröße</translation>
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
            <source>Tray</source>
            <translation>Infobereich</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Model and memory</source>
            <translation>Modell und Speicher</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>VRAM for other programs</source>
            <translation>Grafikspeicher für andere Programme</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source> tokens</source>
            <translation> Token</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Context length</source>
            <translation>Kontextlänge</translation>
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
            <source>KV cache precision</source>
            <translation>Genauigkeit des KV-Caches</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>A&amp;utomatic: by cores and size of the experts</source>
            <translation>A&amp;utomatisch: nach Kernen und Größe der Experten</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>CPU threads</source>
            <translation>CPU-Threads</translation>
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
            <source>{number}: {name}, {size}</source>
            <translation>{number}: {name}, {size}</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Automatic: the one with the most VRAM</source>
            <translation>Automatisch: die mit dem meisten Grafikspeicher</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/model_page.py" />
            <source>Graphics card</source>
            <translation>Grafikkarte</translation>
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
            <source>Experts in VRAM</source>
            <translation>Experten im Grafikspeicher</translation>
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
            <source>Nothing leaves this machine. There is no account and no telemetry; Rooftop opens no network connection, and links are opened only after you have agreed.</source>
            <translation>Nichts verlässt diesen Rechner. Es gibt kein Konto und keine Telemetrie; Rooftop baut keine Netzverbindung auf, und Links werden nur geöffnet, wenn Sie zugestimmt haben.</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>Open folder</source>
            <translation>Ordner öffnen</translation>
        </message>
        <message>
            <location filename="../../app/widgets/settings/privacy_page.py" />
            <source>Open the folder of: {what}</source>
            <translation>Ordner öffnen: {what}</translation>
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
            <source>Search chats (Ctrl+K)</source>
            <translation>Chats durchsuchen (Strg+K)</translation>
        </message>
        <message>
            <location filename="../../app/widgets/sidebar.py" />
            <source>List of chats</source>
            <translation>Liste der Chats</translation>
        </message>
        <message>
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thoughts</source>
            <translation>Gedanken</translation>
        </message>
        <message>
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thinking…</source>
            <translation>Denkt nach…</translation>
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
    </context>
</TS>
