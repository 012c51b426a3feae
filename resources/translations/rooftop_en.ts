<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="en" sourcelanguage="en">
    <context>
        <name>Rooftop</name>
        <message numerus="yes">
            <location filename="../../app/chat_list.py" />
            <source>%n chats found</source>
            <translation>
                <numerusform>%n chat found</numerusform>
                <numerusform>%n chats found</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/engine_words.py" />
            <source>VRAM ran out %n times: fewer experts live there than planned.</source>
            <translation>
                <numerusform>VRAM ran out once: fewer experts live there than planned.</numerusform>
                <numerusform>VRAM ran out %n times: fewer experts live there than planned.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/engine_words.py" />
            <source>%n experts were exchanged in this reply, {size}.</source>
            <translation>
                <numerusform>%n expert was exchanged in this reply, {size}.</numerusform>
                <numerusform>%n experts were exchanged in this reply, {size}.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/engine_words.py" />
            <source>%n parts of experts were exchanged in this reply, {size}.</source>
            <translation>
                <numerusform>%n part of an expert was exchanged in this reply, {size}.</numerusform>
                <numerusform>%n parts of experts were exchanged in this reply, {size}.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/preset_files.py" />
            <source>%n presets could not be read and were left out.</source>
            <translation>
                <numerusform>%n preset could not be read and was left out.</numerusform>
                <numerusform>%n presets could not be read and were left out.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/budget_editor.py" />
            <source>%n experts move in.</source>
            <translation>
                <numerusform>%n expert moves in.</numerusform>
                <numerusform>%n experts move in.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/budget_editor.py" />
            <source>%n experts move out.</source>
            <translation>
                <numerusform>%n expert moves out.</numerusform>
                <numerusform>%n experts move out.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>Delete all %n chats?</source>
            <translation>
                <numerusform>Delete the one chat?</numerusform>
                <numerusform>Delete all %n chats?</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>%n chats could not be saved. Quit and lose what is new in them?</source>
            <translation>
                <numerusform>A chat could not be saved. Quit and lose what is new in it?</numerusform>
                <numerusform>%n chats could not be saved. Quit and lose what is new in them?</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>%n chats deleted</source>
            <translation>
                <numerusform>%n chat deleted</numerusform>
                <numerusform>%n chats deleted</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_desk.py" />
            <source>%n chats imported</source>
            <translation>
                <numerusform>%n chat imported</numerusform>
                <numerusform>%n chats imported</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/chat_pane.py" />
            <source>%n messages deleted</source>
            <translation>
                <numerusform>%n message deleted</numerusform>
                <numerusform>%n messages deleted</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/first_run_view.py" />
            <source>%n models on this computer would run, among them:</source>
            <translation>
                <numerusform>%n model on this computer would run:</numerusform>
                <numerusform>%n models on this computer would run, among them:</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/layer_strip.py" />
            <source>{sides} of this pass: %n tokens</source>
            <translation>
                <numerusform>{sides} of this pass: %n token</numerusform>
                <numerusform>{sides} of this pass: %n tokens</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/message_footer.py" />
            <source>Written without %n older messages, which no longer fit</source>
            <translation>
                <numerusform>Written without %n older message, which no longer fits</numerusform>
                <numerusform>Written without %n older messages, which no longer fit</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/desk.py" />
            <source>%n downloads are unfinished: {names}.</source>
            <translation>
                <numerusform>%n download is unfinished: {names}.</numerusform>
                <numerusform>%n downloads are unfinished: {names}.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/desk.py" />
            <source>%n models were being made smaller: {names}.</source>
            <translation>
                <numerusform>%n model was being made smaller: {names}.</numerusform>
                <numerusform>%n models were being made smaller: {names}.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/found_page.py" />
            <source>%n models, {size}</source>
            <translation>
                <numerusform>%n model, {size}</numerusform>
                <numerusform>%n models, {size}</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/models/hub_page.py" />
            <source>%n repositories</source>
            <translation>
                <numerusform>%n repository</numerusform>
                <numerusform>%n repositories</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/scrubber.py" />
            <source>Drag to go back through the reply, %n tokens</source>
            <translation>
                <numerusform>Drag to go back through the reply, %n token</numerusform>
                <numerusform>Drag to go back through the reply, %n tokens</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../app/widgets/thoughts_view.py" />
            <source>Thought for %n words</source>
            <translation>
                <numerusform>Thought for %n word</numerusform>
                <numerusform>Thought for %n words</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/explain.py" />
            <source>%n tokens</source>
            <translation>
                <numerusform>1 token</numerusform>
                <numerusform>%n tokens</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/explain.py" />
            <source>{what}: %n experts moved to RAM.</source>
            <translation>
                <numerusform>{what}: 1 expert moved to RAM.</numerusform>
                <numerusform>{what}: %n experts moved to RAM.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/explain.py" />
            <source>{what}: %n experts came back.</source>
            <translation>
                <numerusform>{what}: 1 expert came back.</numerusform>
                <numerusform>{what}: %n experts came back.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/limits.py" />
            <source>%n tokens at a time</source>
            <translation>
                <numerusform>one token</numerusform>
                <numerusform>%n tokens at a time</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/reasons.py" />
            <source>While a prompt of more than {tokens} tokens is read, up to %n experts make way for its workspace.</source>
            <translation>
                <numerusform>While a prompt of more than {tokens} tokens is read, 1 expert makes way for its workspace.</numerusform>
                <numerusform>While a prompt of more than {tokens} tokens is read, up to %n experts make way for its workspace.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/experts/regret.py" />
            <source>The latest uploads saved {saved} and cost {cost}; the next trial is %n tokens away.</source>
            <translation>
                <numerusform>The latest uploads saved {saved} and cost {cost}; the next trial is 1 token away.</numerusform>
                <numerusform>The latest uploads saved {saved} and cost {cost}; the next trial is %n tokens away.</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <location filename="../../engine/sizes.py" />
            <source>%n bytes</source>
            <translation>
                <numerusform>%n byte</numerusform>
                <numerusform>%n bytes</numerusform>
            </translation>
        </message>
    </context>
</TS>
