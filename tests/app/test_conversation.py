import pytest

from app.conversation import (
    Attachment,
    Conversation,
    Message,
    can_continue,
    fail_reply,
    finish_reply,
    resume_reply,
    stop_reply,
    title_from,
)
from engine.messages import ChatMessage, ErrorReport, Finished, Timings, Usage

FINISHED = Finished("stop", Usage(10, 4, 6), Timings(0.2, 100.0, 20.0))


def talk(chat: Conversation, *turns: str) -> list[Message]:
    """Questions and replies by turns."""
    said = []
    for index, text in enumerate(turns):
        if index % 2 == 0:
            said.append(chat.add_user(text))
        else:
            reply = chat.begin_reply()
            reply.text = text
            finish_reply(reply, FINISHED)
            said.append(reply)
    return said


def texts(chat: Conversation) -> list[str]:
    return [message.text for message in chat.messages]


def test_a_chat_becomes_the_engines_messages() -> None:
    chat = Conversation()
    _, reply, _ = talk(chat, "Hi", "Hello", "And?")
    turns = (ChatMessage("user", "Hi"), ChatMessage("assistant", "Hello"), ChatMessage("user", "And?"))
    assert chat.for_engine() == turns
    assert chat.for_engine(" Be brief. ") == (ChatMessage("system", "Be brief."), *turns)
    assert (reply.state, reply.reason, reply.usage, reply.timings) == (
        "complete",
        "stop",
        FINISHED.usage,
        FINISHED.timings,
    )


def test_files_go_before_the_message_and_cannot_leave_their_fence() -> None:
    chat = Conversation()
    chat.add_user("Compare", (Attachment("a.txt", "one"), Attachment("b.md", "```\ntwo\n```")))
    assert (
        chat.for_engine()[0].content == "File: a.txt\n```\none\n```\n\nFile: b.md\n````\n```\ntwo\n```\n````\n\nCompare"
    )


def test_a_failed_empty_reply_does_not_break_the_alternation() -> None:
    chat = Conversation()
    chat.add_user("One")
    fail_reply(chat.begin_reply(), ErrorReport("engine", "It broke.", "Retry."))
    chat.add_user("Two")
    assert chat.for_engine() == (ChatMessage("user", "One\n\nTwo"),)


def test_a_stopped_reply_stays_stopped_when_the_engine_answers() -> None:
    reply = Conversation().begin_reply()
    reply.text = "part"
    stop_reply(reply)
    finish_reply(reply, FINISHED)
    assert (reply.state, reply.text, reply.timings) == ("stopped", "part", FINISHED.timings)


def test_a_reply_that_the_engine_cancelled_is_stopped() -> None:
    reply = Conversation().begin_reply()
    finish_reply(reply, Finished("cancelled", FINISHED.usage, FINISHED.timings))
    assert reply.state == "stopped"


def test_a_complete_reply_cannot_fail_or_stop() -> None:
    reply = Conversation().begin_reply()
    finish_reply(reply, FINISHED)
    stop_reply(reply)
    fail_reply(reply, ErrorReport("engine", "It broke.", "Retry."))
    assert reply.state == "complete"


def test_a_reply_written_anew_stands_beside_the_old_one() -> None:
    chat = Conversation()
    question, old, later, _ = talk(chat, "One", "old", "Two", "old two")
    new = chat.begin_reply(beside=old)
    new.text = "new"
    assert texts(chat) == ["One", "new"]
    assert chat.versions(new) == [old, new]
    assert chat.versions(question) == [question]
    chat.choose(old)
    assert texts(chat) == ["One", "old", "Two", "old two"]
    assert chat.for_engine()[-1] == ChatMessage("assistant", "old two")
    assert later in chat
    assert chat.chosen == {question.key: old.key}


def test_an_edited_question_begins_a_branch_with_its_files() -> None:
    chat = Conversation()
    first = chat.add_user("One", (Attachment("a", "x"),))
    talk_after = chat.begin_reply()
    talk_after.text = "answer"
    edited = chat.edit_user(first, "Other")
    assert texts(chat) == ["Other"]
    assert edited.attachments == first.attachments
    assert [m.text for m in chat.versions(edited)] == ["One", "Other"]
    chat.choose(first)
    assert texts(chat) == ["One", "answer"]


def test_a_version_shows_what_was_shown_after_it_last() -> None:
    chat = Conversation()
    _, a, _, b = talk(chat, "One", "a", "Two", "b")
    b2 = chat.begin_reply(beside=b)
    b2.text = "b2"
    a2 = chat.begin_reply(beside=a)
    a2.text = "a2"
    chat.choose(a)
    assert texts(chat) == ["One", "a", "Two", "b2"]
    chat.choose(b)
    chat.choose(a2)
    chat.choose(a)
    assert texts(chat) == ["One", "a", "Two", "b"]


@pytest.mark.parametrize("removed", ["One", "a", "a2", "Two", "b"])
def test_removing_and_putting_back(removed: str) -> None:
    chat = Conversation()
    _, a, _, _ = talk(chat, "One", "a", "Two", "b")
    a2 = chat.begin_reply(beside=a)
    a2.text = "a2"
    chat.choose(a)
    before, tree = texts(chat), {m.key: m.parent for m in chat.all_messages}
    message = next(m for m in chat.all_messages if m.text == removed)
    gone = chat.remove(message)
    assert message not in chat
    assert removed not in texts(chat)
    assert chat.restore(gone)
    assert texts(chat) == before
    assert {m.key: m.parent for m in chat.all_messages} == tree
    assert [m.text for m in chat.versions(a)] == ["a", "a2"]


def test_removing_a_version_shows_another() -> None:
    chat = Conversation()
    _, a = talk(chat, "One", "a")
    a2 = chat.begin_reply(beside=a)
    chat.remove(a2)
    assert texts(chat) == ["One", "a"]


def test_what_followed_something_gone_cannot_come_back() -> None:
    chat = Conversation()
    question, reply = talk(chat, "One", "a")
    gone = chat.remove(reply)
    chat.remove(question)
    assert not chat.restore(gone)
    assert chat.messages == []


def test_a_message_whose_parent_is_lost_is_kept_at_the_end() -> None:
    chat = Conversation()
    talk(chat, "One", "a")
    chat.add(Message("user", "lost", parent="nowhere"))
    assert texts(chat) == ["One", "a", "lost"]
    chat.choose_all({"": "nowhere", "nowhere": "x"})
    assert texts(chat) == ["One", "a", "lost"]


def test_the_title_is_the_first_message_until_there_is_one() -> None:
    chat = Conversation()
    assert chat.shown_title == ""
    chat.add_user("\n  What is an expert?\nTell me")
    assert chat.shown_title == "What is an expert?"
    chat.title = "Experts"
    assert chat.shown_title == "Experts"
    assert len(title_from("word " * 100)) <= 80
    assert title_from("word " * 100).endswith("word…")


def test_what_can_go_on() -> None:
    assert can_continue(Message("assistant", "part", "stopped"))
    assert can_continue(Message("assistant", "part", "failed"))
    assert can_continue(Message("assistant", "part", reason="length"))
    assert not can_continue(Message("assistant", "whole", reason="stop"))
    assert not can_continue(Message("assistant", "", "stopped"))
    assert not can_continue(Message("user", "part", "stopped"))
    message = Message("assistant", "part", "failed", error=ErrorReport("x", "It broke.", "Retry."))
    resume_reply(message)
    assert (message.state, message.error, message.text) == ("partial", None, "part")
