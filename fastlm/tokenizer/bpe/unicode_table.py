"""Class of every code point in Unicode 16. Generated: see tests/support/make_unicode_table.py."""

import base64
import struct
import zlib

N_CODE_POINTS = 0x110000
LETTER, NUMBER, OTHER, SPACE = 1, 2, 4, 8

# Runs of equal class in code point order, 4 bytes each: length * 16 + class, little-endian.
_RUNS = (
    "c-oy<zmFSL5Z?E8?IYm=abhAQ2$I7JXh8DG4IO)|=qMbypg>4Ixk!N!cXA&&x<3G)Tp=1;?vRiiU4iHvnLoh6EyYFm"
    "4_xGijyF5s_|3la9U;Z)?T@$f=6y5s&CDA`QS^<wQWHh*x^eBUiM#sl8oPHrjMIp}Pcd)gt{Ub&a917AEqC3)J-yq*"
    "cxZUMz&L(CigGv3-F5D+He}V5toj@Lo}L?|qq{Qoy{G0k^?x)E>ohAo&YY}cH+FCGbJwywku!A9{lv{PtQW1ba_?sD"
    ">KMi(haQF8s$Xx7_kD~L=p*tI<Mldo_bYb|onEK-evW@?mT_%hE&A3WU5$SpDVz)ZNtWTYXP7_0-n+D>yB|Bb)7U-7"
    "{=d|C`;D>Q1Uee5H^3eQ`!3`j2KLUBKC;)9#!AT-SqBQAW9XV+vsPovxHe^f=wpo(YmzR*z(1~%+m0?{vsSj4DC|#P"
    "0h?`d&&_sBME`@x`-Ir9rF0jZ8-cGk)O(rVLTvT07xLlf*xMk$L}HWdF1k{jYadPnEXZa@N)PduZF0w3uvnY2Ej1Pm"
    "_-$yrp}iba9rgW4;ku_{faWx?H;Ij*(mjRU)`)Xj+r(a%1-_4j8|`Hq2v3Q8c|TTr8maZ#>i?1QTe5LtJx2S6*B5Lv"
    "_wCdG%N^#Y99T@iWfDs|E?bJD1fwPPCc19^w_dl7(s_pW%ewc+G~fgMerU_jHT!D+U5LHo^804OT)7WhlE0E4bSsEK"
    "@%xXk9&#1sFWSc};qQCEvk$)@u4)>V-N3k1zDGQe5qDbe>w>9ZHbJb(Gx2*Lb}nKkz_goiPNjTE{xm^u5Z@pkm|I>;"
    "^6*po*K%Bu&$OLRr?#xa3Tv#~`WKdcd7yM1S>zy<t7sjHck-<T_8>emfzPEXzs#)XSdy11zS4Xodo{bxPHw;5nzvJ`"
    "a<DuP0)Gg{3&AJeo`*KPqw-R!;$a!^h0Oas;+*^mz87_n<&pgBj*5W;6%&GcA-7ugja0?H=+_Qvmf9BouLEb{f)4)6"
    "bxjpB#t%u}r&09GJ)b*#56DkGj-nUD8DF{o-s1Ii-WZ`iORtIZLF{WW+Q0bQVN}Nb|BOim^6oRPlIuyAk&}NCmE&bk"
    "<pqlGp0eAx;_>PzUOKDrKKCPzE#uxNF?a%TLOJ*e<h+dhdy2v0*?lm-n8II|k1A2ijc4%F<!#S9Qp*tcQk)S^;-3`T"
    "B6BEQSM?m0Zpq;T<Y;5cIWJSWbOryLf{zNmihax;8_$8YpbjbG9CdtQPj@X*H(ns_wNJNI{+g)gqE0qmzk$l#J;*NQ"
    "oVXkV4VC}WAO?<A%`sECYN0tpjoW;3;|tKIxx=`Le%T+E^SRX2PQU!Njn3{NW}TgSmgOy=XJ<=3Uj})<c14{!r#^xD"
    "h<jXn8Q7m{@ng$1TE64u9J)TGWw!TVr^qX<EAS9bZb5Dx|J9M-v|bmOPdKHd-wyBhx#jUB=G;NOUH&%vN(*?AuRjHT"
    "6l43aMFy@MAg(*$n5oKbnJw3f#9>p)NjLcW#!i^GnQyt~B)?z4KkBMh2<z_azPFT|!@I0|7qKx=aa7=EeZAO8JkDb8"
    "xxJk8Qur5*Pt^Spav1G{_>Q<q+oc0MNSA|1<^F^@IY+Neb1h`Pu)bHxf_iz0J)NLWTpHi2)BPU!Pi!%VuRR3slaEfJ"
    "kL;z1TIvaEC6aptejhqL`?RMRH5Ky60qnR4>ZQ5l71HyT<6q-3?_r+_IN>yAohQ0yL`;zXQB7RbZtmYUbjp#t7N{Ah"
    "#(81N=LyoQE-hmry|nauq_>=j=-e(kG_AKgtz*E;8EUvmz;QY1*HhqE_?F?AFM8T|dtI!3c^rA(t^<?T?MbEA6|STF"
    "I1YNFO+TvYg^?-mYhfAV)cCwSQT5h2daB%%bKkM}#7*9h)RVdO^J@yr9?oP|LC@a<u9U~<42N>*GvHnHZf~NV-eC^j"
    "Q+<{0aR&ib)X%L08_Ic25tkD0wtUW0V1nl<_)BW4j@lE|7A@m#QN++L_eyKEH|bZ~u(`zibHpR@YqE3M)?Mq@8wEY0"
    "o<}@>9%6cz<6ZAx@?Jyr3cZTg=b_=AWc;~%?{eSED(joMJuMs%wJOguU-J7dd};O%@8i&cIr`Obz7YA}yZwI%pEu=R"
    "^&%-h%YO!WDvLbt)YX|q8@SQ_lJ_|NH~ri$`^XXTQ<eM1O?{j&22>w50$UFr8|J02*^i4j{ml9rF2KBb$78z+&Rc{-"
    "NZ#BP%=u4Fk1Ff2MEnlb`CYGKSod%JnL#nSe@=+g=qwd=^I>wC1Jf;Mtn+|}HoTOS`|?5XeQwIU)eia~nU}qTa{|SK"
    "`i%H>pCu+AkPrOG-^J%Uu7*D&p1Q#{pF*EB;P`so`;zqG1-|!rf1Br9zP6G2x$}YAV|2OhDlpmQf20n`63-7JyYC$0"
    "X<R->r(Cy4xK5KECf!xNV^HUX96k>8s%<$>&#&oGo6+_1|7#5Y3u7a@LcdK;GUXn=t={J;pK-Q+gKfTWas0#0BCn5Q"
    "!~AdyzW&HC-~DBZ7(Amhqo3XA6imN!I66`;&MvC17yR?@=wFxoC0Y"
)


def code_point_classes() -> bytes:
    """LETTER (\\p{L}), NUMBER (\\p{N}), SPACE (\\s) or OTHER for each code point."""
    runs = struct.iter_unpack("<I", zlib.decompress(base64.b85decode("".join(_RUNS))))
    return b"".join([bytes((run & 15,)) * (run >> 4) for (run,) in runs])
