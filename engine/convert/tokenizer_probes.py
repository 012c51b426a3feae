"""Texts that show where a tokenizer cuts: numbers, contractions, case, spaces, scripts, symbols."""

from __future__ import annotations

PROBES = (
    "Hello world, it's 2024; we'll pay $1,234.56 (or 12 345,67). I'M sure WE'VE DON'T 'tis she'd",
    " 3 33 333 3333 33333 333333 1a a1 x=10 3.3 3..3 ------======= ''''```\"\"\"......!!!!??????",
    "def f(x):\n\tif x  >=  10:\n\n        return {'a': [1, 2], \"b\": None}  # ...\r\n\r\n\n \n\t\t end/\n//\n",
    "   leading and trailing   ",
    "HTTPServer iPhone camelCase ABCdef aB _under_ score a+b c~d ^x |y| <z> @w #v &u *t",
    "\u00c9COLE \u00c9cole \u0434\u043e\u043c \u0414\u041e\u041c \u01c5 e\u0301\u0301 n\u0303 "
    "\u00df \u0390 \u0e44\u0e17\u0e22",
    "\u6f22\u5b57\u3068\u304b\u306a\u3068\u30ab\u30ca\u3001\ud55c\uad6d\uc5b4\u3002\u4e2d\u6587a\u4e2d1 "
    "\u0665\u0666\u0667 \u216b \u00bd \u00b2",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0629 \u20ac5 "
    "\U0001f600\U0001f9d1\u200d\U0001f680 \u00a0\u2003x\u2028y\u3000z\uff0c\uff01",
)
