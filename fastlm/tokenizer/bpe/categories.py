"""Category of every code point in Unicode 16. Generated: see tests/support/make_categories.py."""

import base64
import functools
import struct
import zlib

CONTROL, UPPER, LOWER, CASELESS, MARK, NUMBER, SYMBOL, SPACE, UNASSIGNED = range(9)

# Runs of equal category in code point order, 4 bytes each: length * 16 + category, little-endian.
_RUNS = (
    "c-rk-Pi&Oe5&z!zt(Q##!pUyjm8w>lHQVi_s<E-$L#vuKtG!f8u;cEjDlAxgs44{;%eNLAEFTjL7OHwkvlv;bdPqzt"
    ">M<sk&oNjzwl%T1wg!uy+L`bD#&7nqYX~Y0B^*A@e(!sKX6DVmH}m$rAP9a=&jAwz-y*n8&jLLY^!$O^MhSjMute~e"
    "f$j4F`p(mnrYBENdtmz<qNjtNH|Xi3=S}qCwj+S=8bErc@Oz4$*D>xzga^Oo@n0wGY|?(XNxQsvgWiEA?Rs426RdZz"
    "#r%H%gOF3ft=MFp&gVc5^gKR3-7m2I`0$LkFPg6dPcZ&?!tVFSWPft7Z_D&-(lZ46Cw41_)F-j$(Yd6Lycf`RShbg7"
    "BVR`w?^71<S-p?OzQ51oL$}W&_s^1_$JKjB6W!>Jf*_2Z9~odA$6sI>@BD`Oh!+L2{+<Y(9pL!sVrcchfS8E;+zzb_"
    "XCTX69_02}dX|i}A4S-Zn~1}%(Q_Sr+cEDF%{gpr{Kobyhk1IE&W??vKfj+sA6at{?>xQ->!o26vly4goEx;xbz^Co"
    "YqPlUw|f|$CR{FIz7oC_FqY@78oM61Ujpm}97f-5tUG7yw*v6wwk3Kh^h_gutfKt@+Ih}8;c(tqyfgH>8o4#PjN?Zg"
    "Jjergo-e|hJm)ml&H+|or^oP}=jq2D35_y$0dp4=eY5CO#++I3Tly`ao$)!X_Ce%A=E{QZ@-DdLnn1xZ3tpE!9Q*No"
    "5;O^olfbPD_=@Z<DtzV?J=tCG8S;2_9__sfiVi(gaw`1E1D`bHSdV?&ezn4(*?vs|?zUH=Tc^PbnNRkoU-6@e_nhLZ"
    ";MA{R58yJ^9>%-SIH>qj!<wvncj%dc4h(}AdOya%i^x1md)AwO5_HP=g3@DuKPJJ4vx*<R_}vPJ`Y!v>3YVHE%NmEQ"
    "vU#f*=gZ?<Xvef#NA#?$Wc;kR=SMu7BjY)a?1xR#x*$9oQ@T}Fax1!c9`r3JIqU!}QDpn&fOi?+#xSl!=|v@cRKA8p"
    "H%w!DJ#h10Qn(Iz<Aqm(8_RJjwBIL;#g%>CG1KVRG%SH8k%wYv=@>N5_YJ|X#rqLjID_${XkQ17?C%C)#~1LuihV39"
    "d)uq{)`RbB^xRVZYys_g_-~2ND}YS%$DxyLj>qRRPNxf=KhW)SVdHx`e6n#{BC}Crdr!jIr+M(aA3A*vGIXNN_BpBi"
    "=5ijs1o@k~vF|)~DPd!XBiNrw$TRcg3a<%&n8$k#d%g-@Y8{jIBH^6~?YwCf2V|7a))c$}n%dQ#)DT}xLN<8rT<B~C"
    "?@u*h?d}$2`xf-$meP}c<=;1qlW~rxmLZ4C4_@yR=^t8KCGiN4A0nErN(`rLs87p;ivPIJea0=ab8RvH#_7RM++nN^"
    "u7D4W=WP{}F`jo3Ka`+9gV_5K^by~&fbTr_MHQbizdk~I+6~>BRkoVr$0BH|D%;Sj`28u3-y&K*N83SqAEGCbcp3k{"
    "g#Ueb@g*Ogn|(N^e98&HDYQ@R@?Gb<nn4-+_ZD*sJdQD(>v-F%H5~T7aobVMC;8+o+NV^XLX)w1y#JY=x7bdSUHl$?"
    "$90m>!ne@x16AuN;4Cl_xY%R_{nlWkJ3@P|$pA`zumqU*a^c-xZmth_j;g$(4+j)~Bqv$~%&Q#o2*w=6`m)XumG658"
    "W7tn#`#$+NWBql7;AhltlWhNKt``xLz9g9ZiRD8QvCe!l2#l9Q?0!tnYM@DO>m>Y9_e*_zu4-GOO}_PdaYqR{!g6#H"
    "av|R&cRn4tbA1QSv>BWkuc%o0X(7j>+c>vuavVg@HN=hcZ8mNl-AC~x%P`_($)z#w^VD`3XSWW-ka@(-IhEh5wz)H0"
    "9x)mBueVuP1l>#E!$zBn1&<-W7ty!T(9$hAscqxVVVm^(0=_+fuEn+65bwme==UZ_l5Vcm+G4vi5!v}R5F4(wTbv`~"
    "@=j&*|0|Daoa2}$S5+?Je~pLaCirY3IkQp3+I(J~Q#Svr&VTqDY;V#n?h15%h4J|o?a!LWZ+q}*=NV{0d%>$iXt>*)"
    "?8AFhTMyuv)DHlQ$`%j9E@lwVoW^?%=l&98JwC5THs3z0&bl?^;H!bl4|J&fU3}g(Hn)|>nzwOY=YDHA_YUGbeHVG5"
    "tctm$?mC1y>u4WRxxl-U-$0*fFQ-@lUA%su&L>4K2hpqaU2+s@mCu|tuAZ`lylh_O6c=&UE_kq+zmptP5%G9h#bqJ+"
    "ke<-x1G~IDOYtvZ?BB*vQ%Xk`2JK<6(P8`6DNd_}w!XfKc)OzLsSE$TykfdVy<s_N^BO67mS|v}V1)ctHF9}l&Lu8`"
    "*9n!!;@^Gnk$v!eCD1EtkEQH<?Ral>hv^1#N&PMOT~K-V3CuNt{rO?wYIw_%I|V*Hrjh0?^xFt*e6h60@~{th-wEv+"
    "oV&XmS^gYSvBSEY5xDk2eb<riDx{p;^WHtgo_vD+<aps2<fdqByfTfrCC-zDR`x2$EoHHW<YA}r&awU?wVk79ik^)`"
    "qZ|#O|4|tiTHR*77ybMQwEP3`U3J$XmSezw0-jOluYSxG%WB%v!!?{m;5chs?!6wmTze(q_EF?<Ic%)2?BwDV{TJ|_"
    "N3MShwu<AtRMfb?74V1gIj#1IWuYRnoUn0h8Ta9MTpMzQUxv<RNUpS^a@IPJx@KISw~W2MjNI%z;F@uF?)di+=#uQ^"
    "GV-)#;5`BPVBHfruVS4GkmU+~bB=cs`nC$*q)30}h`!0l-U<1FeI@kxwB#gV`*lu~_vHj+cUZ+`CzW4FQQZB&H14a^"
    "K&0lBf-U9s2SM|Ks;e?B*AYYWxwd9p9y|6=oU1gJ7LIe}T+xf%?tSot`NikhjI!-%@Gf3AwCm`*j~UpCcFFr2S2L|)"
    "jUs%G#PE_6?@~1Mgsx65YxbfBbQf|`QgLoq;CLW>6<fl!ft%P%siogSESgdN_FmMy4v|%L2(kS&_}p8NU7>IADeAA;"
    "ps^n3*I)e_XGQtg0>+3;-BdNjv}XsZp=-aS>TbFgKB#Kq+JEO&o?c>_FN~F!F67HcRQ)ZhYF;d>_l(^;&eiAC9_{GJ"
    "tCpWa|0SFeib7|I`k#tHZYsXV{=(R^<ZUGfx*oxDuxjjmlDHlL8UIY;8<w-zti8N1HBipk(0dr#n&+z8TjB4tx2IfR"
    "Jf-%vpz5j_CF^~V>lnX;n|Dm{Vce5x9)A<{zN_#%<Lb;eqwdY5QAgx+ZbI>m_la#*Y{PKQuDxb!avkdaN=?;oheCHh"
    ";k=rMb^VTUwI!)5or1i_v1Q^>xo25CrE0-hRc9Ypv}zk#_2!7+%k|h{@1902ZSDD>x-X$)Q;FenVWS?cV|=V{ZSD@n"
    "J2cn2vHXjD-j8Svl92~VJI@H@vbdLIg*GUiwCi&Jh=tj>y3&2{Z|PrFr^g7fD}OXG54&K~YrmpB$XUF%RNh14`mKa("
    "t112ut9vP|H{<Y^a))YB-4{43dknwF{7QY>+V?)0d#}@jv$!i-N!preS>IcLAC&qs#{oHCez6BEXVbqi)@S{UXb-LJ"
    "n*2eyV|RVI>3PHMLmKu+-^sWK`gp!&>Rf)0@Jm{nB<DN_8K|q8u=v-XvX6fd1j+r5pC#hMD$#Hk^}=!Z$`Zx1t3>PQ"
    "e#^@Vd|yF*vk&>P-v;jdHjaE1^JYD=XU=@W)g2f2z(xfQPPEzeF0&s^*;t<Ac!oRiqH*o|K5aqO?d4ta|L2hF)@S51"
    "DlV1zBvu{3_;X$?>-WjxY%ev9ey^{_|8ekB$nyKR8*vfv<TGf~cb5;*-XsrLS&r{(M9!{m0#3jli2Y$*PEo-1A!P9="
    ">gYUoWuLn{k}=M%`*tfnlkhzU#6GD#RtNjhe@vZa%gQgLGFI<nJ8G=|8brUHc>Fsy4wm-XK0Bt%%N4|Zzw7j_7(9Be"
    "i*3bTi_2x;#=6@X+B&${@3LpBvfXq}iyHq2!!auB*PYPia0`3gx=Y@<(vNBC9-e6hYYLBalkfVR(Q5w3L4TZYw~8(B"
    "+lkS{=K8q=KF>y$Z}%veUcouDl(cqX+q)ksa3q9JX8ux4H5)m9C3DERDG!^;aq!|RB;!AZ48Whu8GK@oZQpLQJY7+;"
    "@=(3cMAr67-eLx4;!Vi>ijoD6wM%bWS~fw8talA^I|E-LwBEqHf`8vDmgbc<$TS)7=-02tXTN%6tUug`IGheaOlz7B"
    "ON{ddAyN1pK{8&2Uyz*jnt079X@cx$e~Qm99J2<*?-beH1ljr2-}VQ8{rCQOK7s!M6BbFf"
)


@functools.cache
def categories() -> bytes:
    """The category of each code point, unpacked once.

    UPPER is Lu and Lt, LOWER Ll, CASELESS Lm and Lo, MARK M, NUMBER N, SYMBOL P and S, SPACE what
    \\s matches, UNASSIGNED Cn, and CONTROL all others: control, format and private characters.
    """
    runs = struct.iter_unpack("<I", zlib.decompress(base64.b85decode("".join(_RUNS))))
    return b"".join([bytes((run & 15,)) * (run >> 4) for (run,) in runs])
