"""What people read in messages and tables."""

from jfsed_jax.errors import one_line


def test_text_is_a_line_and_only_what_cannot_be_printed_is_escaped():
    spaces = "a b\xa0c\u3000d\u2003é"
    assert one_line(spaces) == spaces
    assert one_line("a\tb\r\n\x1b[2J\x7f\x85\u2028\u2029") == r"a\tb\r\n\x1b[2J\x7f\x85\u2028\u2029"
    assert one_line("caf\udcff") == r"caf\udcff"
