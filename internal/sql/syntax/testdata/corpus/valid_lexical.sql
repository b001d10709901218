SELECT 'it''s', '', 'a\b', E'a\nb\t\\\'''', E'\x41\102\u0041\U00000041\uD83D\uDE00', e'\q\e\v', 'multi
line';
SELECT 'a'
'b', 'a'   
   'b'
 'c', E'a'
'\n';
SELECT U&'d\0061t\+000061', U&'d!0061' UESCAPE '!', U&"d\0061t", U&"d!0061" UESCAPE '!', u&'\\', U&'\D83D\DE00';
SELECT $$it's$$, $x$a$$b$x$, $tag$ $x$ y $x$ $tag$, $$$$, $a1_$x$a1_$;
SELECT B'0101', b'', X'1F', x'', B'01'
'10';
SELECT N'abc', n'x';
SELECT 1, 1.5, .5, 5., 1e5, 1E-5, 1.e3, .5e+2, 0x1F, 0XffFF, 0o17, 0b101, 1_000, 1_000.000_1, 1_0e1_0, 0x_1f, 0b_1, 000123, 2147483648, 99999999999999999999, 0x7fffffff, 0x80000000, 0, 00;
SELECT "a", "A b", "x""y", "select", Abc, ABC, _a, a$b, a1, "ünïcödé", ünïcödé, "日本語";
SELECT 1 /* comment */+/* nested /* deep */ still */2 -- end
;
SELECT a/*x*/b FROM t;
SELECT a<-1, a<--x
1, a>=b, a<>b, a!=b, a<=>b, a||b, a!~~b, a-b, a--
-b;
SELECT a+-b, a*-b, a@-b, a|/-b, a##-b, a-+b, a=-b, a<=-b, a||-b, a~-b;
SELECT 1:: int, a :: text, a[1:2], a[ :2], x.y . z;
SELECT a FROM t WHERE b = 'x';
SELECT	a,
	b	-- tab
FROM t
